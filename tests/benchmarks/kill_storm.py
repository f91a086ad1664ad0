"""Kill a labelling job again and again at random moments, and hold what it leaves against an undisturbed run.

    python tests/benchmarks/kill_storm.py [--kills 200] [--seed 0] [--clips 200] [--keep FOLDER]

Workers, the parent or the whole process group get SIGKILL, half of them in the middle of a shard, half at any
moment. A job whose parent is gone is started again, as a scheduler would; when a store gets finished, a few
receipts and shards of it are deleted and the storm goes on. A calm run closes it. What has to hold in the end: the
files, receipts and `_SUCCESS` of an undisturbed run, nothing quarantined, `verify` satisfied, no process left behind,
and at most one shard a worker and kill done again. The last line of stdout is one JSON object; exits 1 if anything
is off.
"""

import argparse
import contextlib
import hashlib
import json
import os
import platform
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import soundfile

import softlabels
from softlabels.records.receipts import Receipt

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from standin import StandIn  # noqa: E402

JOBS, SHARD_WINDOWS, WINDOWS_OF_CLIP = 2, 4, 3
MARK = (0.5, -0.5)  # second and third sample of a window; the first says which one it is
PATIENCE_S = 60


class SlowStandIn(StandIn):
    """The stand-in, slow enough to be killed in mid-shard; notes every window in the file named in STORM_LOG."""

    digest = hashlib.sha256(b"slow stand-in").hexdigest()

    def score(self, windows: np.ndarray) -> np.ndarray:
        ours = windows[(windows[:, 1] == MARK[0]) & (windows[:, 2] == MARK[1]), 0]
        if len(ours):  # neither control windows nor padding
            text = "".join(f"{round(first * 4096)}\n" for first in ours)
            with open(os.environ["STORM_LOG"], "ab", buffering=0) as log:
                log.write(text.encode())
            time.sleep(float(os.environ.get("STORM_SLEEP_S", "0")) * len(ours))
        return super().score(windows)


def teacher() -> SlowStandIn:
    return SlowStandIn()


def make_corpus(folder: Path, clips: int) -> None:
    """Clips of 1 to 3 windows; the first three samples of a window name it."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for clip in range(clips):
        windows = 1 + clip % WINDOWS_OF_CLIP
        samples = rng.uniform(-0.4, 0.4, (windows, 800)).astype(np.float32)
        for window in range(windows):
            samples[window, :3] = (_number(clip, window) / 4096, *MARK)
        soundfile.write(folder / f"{clip:04d}.wav", samples.reshape(-1), 8000, subtype="FLOAT")
    rows = [f"{clip:04d},{clip:04d}.wav" for clip in range(clips)]
    (folder / "data_manifest.csv").write_text("\n".join(["clip_id,path", *rows]) + "\n")


def _number(clip: int, window: int) -> int:
    return 1 + clip * WINDOWS_OF_CLIP + window


@dataclass
class Job:
    """One `softlabels run` in a process group of its own, and its log of scored windows."""

    corpus: Path
    store: Path
    log: Path
    sleep_s: float = 0.004
    process: subprocess.Popen | None = None

    def start(self) -> None:
        path = os.pathsep.join([str(HERE.parent), str(HERE), os.environ.get("PYTHONPATH", "")])
        command = [sys.executable, "-m", "pipeline", "run", self.corpus / "data_manifest.csv", "-o", self.store]
        command += ["--teacher", "kill_storm:teacher", "--jobs", str(JOBS), "--shard-windows", str(SHARD_WINDOWS)]
        with self.errors.open("ab") as errors:
            self.process = subprocess.Popen(
                list(map(str, command)),
                cwd=HERE.parent.parent,
                env={**os.environ, "PYTHONPATH": path, "STORM_LOG": str(self.log), "STORM_SLEEP_S": str(self.sleep_s)},
                stdout=subprocess.DEVNULL,
                stderr=errors,
                start_new_session=True,
            )

    @property
    def errors(self) -> Path:
        return self.log.with_suffix(".stderr")

    def runs(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def run(self) -> int:
        """Undisturbed, to its end; returns the exit code."""
        self.start()
        return self.process.wait(timeout=300)

    def workers(self) -> list[int]:
        return [pid for pid in group_members(self.process.pid) if pid != self.process.pid]

    def scored(self) -> Counter:
        """number of a window -> how often the teacher has begun it."""
        return Counter(map(int, self.log.read_text().split())) if self.log.exists() else Counter()


def group_members(group: int) -> list[int]:
    """The live processes of a group without the resource tracker, which holds no work."""
    members = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            state, _, pgid = (entry / "stat").read_text().rpartition(")")[2].split()[:3]
            command = (entry / "cmdline").read_text()
        except OSError:
            continue  # gone meanwhile
        if int(pgid) == group and state != "Z" and "resource_tracker" not in command:
            members.append(int(entry.name))
    return members


@dataclass
class Storm:
    """Kills a job until it has been killed often enough, and counts.

    kills: by target; exits: by exit code, of runs that ended by themselves; deleted: shards whose receipt, file or
    both were deleted; groups: process groups of jobs that are gone; lull_s: the longest time without a kill, long
    enough that a job now and then gets its store finished.
    """

    job: Job
    rng: random.Random
    lull_s: float
    kills: Counter = field(default_factory=Counter)
    exits: Counter = field(default_factory=Counter)
    starts: int = 0
    deleted: int = 0
    groups: list[int] = field(default_factory=list)

    def rage(self, kills: int) -> None:
        while self.kills.total() < kills:
            if not self.job.runs():
                self._restart()
            if self._wait_for_a_moment():
                self._kill(self.rng.choice(["worker", "parent", "group"]))
        if self.job.runs():
            os.killpg(self.job.process.pid, signal.SIGKILL)  # the last one, so that the calm run has to resume
            self.kills["group"] += 1
        self.job.process.wait()
        self.groups.append(self.job.process.pid)

    def _restart(self) -> None:
        if self.job.process is not None:
            self.groups.append(self.job.process.pid)
            if self.job.process.returncode >= 0:
                self.exits[self.job.process.returncode] += 1
            if self.job.process.returncode == 0:
                self._delete_some()
        self.job.start()
        self.starts += 1

    def _wait_for_a_moment(self) -> bool:
        """Half the time until a window is being scored, half the time until any moment; False if the job ended."""
        if self.rng.random() < 0.5:
            before = _size(self.job.log)
            deadline = time.monotonic() + PATIENCE_S
            while self.job.runs() and _size(self.job.log) == before:
                if time.monotonic() > deadline:
                    raise TimeoutError(f"no window was scored for {PATIENCE_S} s; see {self.job.errors}")
                time.sleep(0.002)
            time.sleep(self.rng.uniform(0, 0.1))
        else:
            time.sleep(self.rng.uniform(0, self.lull_s))
        return self.job.runs()

    def _kill(self, target: str) -> None:
        parent = self.job.process.pid
        if target == "worker":
            workers = self.job.workers()
            if not workers:
                return
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.rng.choice(workers), signal.SIGKILL)
        elif target == "parent":
            self.job.process.kill()
        else:
            os.killpg(parent, signal.SIGKILL)
        self.kills[target] += 1
        if target != "worker":
            self.job.process.wait()

    def _delete_some(self) -> None:
        """Take receipts, files or both of some committed shards away, as if the store were older."""
        store = softlabels.open(self.job.store)
        for shard in self.rng.sample(sorted(store.receipts), min(len(store.receipts), self.rng.randint(3, 40))):
            receipt = self.job.store / "receipts" / f"{shard:05d}.g0.json"
            file = store.storage.path(store.receipts[shard].file)
            for path in self.rng.choice([(receipt,), (file,), (receipt, file)]):
                path.unlink()
            self.deleted += 1


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def left_behind(groups: list[int]) -> list[int]:
    """Processes that still live although their job is gone; they get ten seconds to notice."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        alive = [pid for group in groups for pid in group_members(group)]
        if not alive:
            return []
        time.sleep(0.1)
    return alive


def digests(store: Path) -> dict[str, str]:
    """name -> sha256 of everything that has to come out the same: shards, receipts, plan, `_SUCCESS`, classes."""
    paths = [*store.glob("shards/0*"), *store.glob("receipts/0*"), *store.glob("plan/0*"), *store.glob("_SUCCESS*")]
    paths += [store / "store.json", store / "classes.txt", store / "quarantine.csv"]
    return {str(p.relative_to(store)): hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(paths)}


def shards_done_again(store: Path, scored: Counter, deleted: int) -> int:
    """How often a shard was begun beyond the once that it needs, and beyond once more if it was deleted."""
    opened = softlabels.open(store)
    firsts = [clips[0].clip_id for clips in opened.planned(range(opened.planned_shards)).values()]
    return sum(scored[_number(int(clip_id), 0)] - 1 for clip_id in firsts) - deleted


def quarantined_ever(store: Path) -> list[str]:
    """`clip_id: reason: detail` of every quarantine in any receipt, also in those that a retry has replaced."""
    receipts = [Receipt.from_bytes(path.read_bytes()) for path in sorted((store / "receipts").glob("0*"))]
    return [f"{entry.clip_id}: {entry.reason}: {entry.detail}" for r in receipts for entry in r.quarantined]


def verify_is_good(store: Path) -> bool:
    command = [sys.executable, "-m", "pipeline", "verify", str(store), "--json"]
    done = subprocess.run(command, cwd=HERE.parent.parent, capture_output=True, text=True, check=False)
    return done.returncode == 0 and json.loads(done.stdout)["good"]


def storm(folder: Path, *, kills: int, seed: int, clips: int) -> dict[str, object]:
    """The whole experiment; returns its figures, among them `wrong`: what is off, in words."""
    began = time.monotonic()
    make_corpus(folder / "corpus", clips)
    calm = Job(folder / "corpus", folder / "undisturbed", folder / "undisturbed.log", sleep_s=0)
    calm_exit = calm.run()
    lull_s = time.monotonic() - began
    job = Job(folder / "corpus", folder / "store", folder / "storm.log")
    tempest = Storm(job, random.Random(seed), lull_s)
    tempest.rage(kills)
    stray = left_behind(tempest.groups)
    last_exit = job.run()
    expected, got = digests(calm.store), digests(job.store)
    store = softlabels.open(job.store)
    killed = tempest.kills.total()
    figures = {
        "kills": killed,
        "kills_of": dict(sorted(tempest.kills.items())),
        "starts": tempest.starts,
        "ended_by_themselves": {str(code): count for code, count in sorted(tempest.exits.items())},
        "shards": store.planned_shards,
        "shards_deleted": tempest.deleted,
        "shards_done_again": shards_done_again(job.store, job.scored(), tempest.deleted),
        "allowed": JOBS * killed,
        "quarantined_ever": quarantined_ever(job.store),
        "files_that_differ": sorted(name for name in {*expected, *got} if expected.get(name) != got.get(name)),
        "success": (job.store / "_SUCCESS-0001.json").is_file(),
        "verify": verify_is_good(job.store),
        "processes_left": len(stray),
        "exit_codes": [calm_exit, last_exit],
        "seconds": round(time.monotonic() - began, 1),
    }
    return {**figures, "wrong": wrong(figures)}


def wrong(figures: dict) -> list[str]:
    """What is off. A run that ends by itself may exit 0, or 1 where kills made it put a shard off."""
    checks = {
        "files differ from the undisturbed run's": figures["files_that_differ"],
        "clips were quarantined": figures["quarantined_ever"],
        "_SUCCESS is missing": not figures["success"],
        "verify found problems": not figures["verify"],
        "processes were left behind": figures["processes_left"],
        "more shards were done again than one a worker and kill": figures["shards_done_again"] > figures["allowed"],
        "a calm run did not exit 0": any(figures["exit_codes"]),
        "a run ended with an odd exit code": set(figures["ended_by_themselves"]) - {"0", "1"},
    }
    return [what for what, is_off in checks.items() if is_off]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--clips", type=int, default=200)
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="work here and leave the stores for a look")
    args = parser.parse_args()
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, Linux {platform.release()}; Python {platform.python_version()}"
    )
    if args.keep:
        args.keep.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as temporary:
        figures = storm(args.keep or Path(temporary), kills=args.kills, seed=args.seed, clips=args.clips)
        for name, value in figures.items():
            print(f"{name:<22}{value}")
    print(json.dumps(figures))
    return 1 if figures["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
