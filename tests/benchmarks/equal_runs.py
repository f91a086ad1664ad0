"""Eight equal runs on one store, killed at random moments and started again, held against an undisturbed run.

    python tests/benchmarks/equal_runs.py [--runs 8] [--rounds 5] [--kills 32] [--seed 0] [--clips 120]

A scheduler that starts a job twice, or people who share a disk: all runs have the same command. Each round begins with
a new store; process groups get SIGKILL, half of them in the middle of a shard, and are started again. When all have
ended, a calm run closes the store. It has to have the files, receipts and `_SUCCESS` of an undisturbed run, nothing
quarantined, `verify` satisfied and no process left. The last line of stdout is one JSON object; exits 1 if anything is
off. Linux only.
"""

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from kill_storm import Job, digests, left_behind, make_corpus, quarantined_ever, verify_is_good

PATIENCE_S = 300


def crowd(folder: Path, corpus: Path, *, runs: int, kills: int, rng: random.Random) -> tuple[Path, Counter, list[str]]:
    """Let so many equal runs make one store; the store, what ended how, and what was left behind."""
    folder.mkdir()
    jobs = [Job(corpus, folder / "store", folder / f"{n}.log", sleep_s=0.02) for n in range(runs)]
    for job in jobs:
        job.start()
    ended: Counter[str] = Counter()
    groups = []
    for _ in range(kills):
        time.sleep(rng.uniform(0, 0.6))
        job = rng.choice(jobs)
        groups.append(job.process.pid)
        if job.runs():
            os.killpg(job.process.pid, signal.SIGKILL)
            ended["killed"] += 1
        code = job.process.wait()
        ended[f"exit {code}"] += code >= 0
        job.start()
    for job in jobs:
        ended[f"exit {job.process.wait(timeout=PATIENCE_S)}"] += 1
        groups.append(job.process.pid)
    calm = Job(corpus, folder / "store", folder / "calm.log")
    ended[f"calm exit {calm.run()}"] += 1
    return folder / "store", ended, [str(pid) for pid in left_behind(groups)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--kills", type=int, default=32, help="of each round")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--clips", type=int, default=120)
    args = parser.parse_args()
    total: Counter[str] = Counter()
    wrong = []
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        make_corpus(root / "corpus", args.clips)
        undisturbed = Job(root / "corpus", root / "undisturbed", root / "undisturbed.log", sleep_s=0)
        assert undisturbed.run() == 0
        for number in range(args.rounds):
            rng = random.Random(args.seed * 1000 + number)
            store, ended, left = crowd(root / str(number), root / "corpus", runs=args.runs, kills=args.kills, rng=rng)
            total += ended
            differ = {
                name
                for name in digests(undisturbed.store).keys() | digests(store).keys()
                if digests(undisturbed.store).get(name) != digests(store).get(name)
            }
            faults = [*sorted(differ), *left, *quarantined_ever(store)]
            faults += [] if verify_is_good(store) else ["verify"]
            wrong += [f"round {number}: {fault}" for fault in faults]
            print(f"round {number}: {dict(ended)}; wrong {len(faults)} {faults[:5]}", flush=True)
    print(json.dumps({"rounds": args.rounds, "runs": args.runs, "ended": dict(total), "wrong": wrong}))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
