"""Two runs begin one new store at the same moment, with two teachers or with two overlaps: does one valid store stand?

    PYTHONPATH=.:tests python tests/benchmarks/races.py --races 100

A race is good if exactly one run is refused, with a StoreError or TeacherError, and the store that stands is the other
one's in every byte: verified, nothing missing, its own class list, card, hints, and the grid of its own spec.
"""

import argparse
import multiprocessing
import random
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile

import pipeline
import softlabels
from pipeline.checking.verify import verify

SEED = 16
CONTENDERS = {  # kind -> (teacher, overlap in seconds) of both
    "teachers": (("standin:teacher", 0.0), ("standin:bands", 0.0)),
    "overlaps": (("standin:teacher", 0.0), ("standin:teacher", 0.05)),
}


def make_corpus(folder: Path) -> Path:
    """Six clips of 0.05 to 0.4 s."""
    lines = ["clip_id,path"]
    for i, seconds in enumerate([0.3, 0.1, 0.25, 0.4, 0.05, 0.2]):
        samples = np.random.default_rng(i).uniform(-0.4, 0.4, round(seconds * 8000)).astype(np.float32)
        soundfile.write(folder / f"c{i}.wav", samples, 8000)
        lines.append(f"c{i},c{i}.wav")
    manifest = folder / "data_manifest.csv"
    manifest.write_text("\n".join(lines) + "\n")
    return manifest


def label(manifest: Path, store: Path, contender: tuple[str, float]) -> str:
    """How the run was refused; nothing if it was not."""
    teacher, overlap_s = contender
    try:
        pipeline.run(
            manifest,
            store,
            teacher=teacher,
            labelling=pipeline.LabelOptions(overlap_s=overlap_s, shard_windows=4),
            options=pipeline.RunOptions(backend="sequential"),
        )
    except Exception as e:  # what is no refusal is counted as bad
        return f"{type(e).__name__}: {e}"
    return ""


def contend(manifest: Path, store: Path, contender: tuple[str, float], delay_s: float, start, answers) -> None:
    start.wait()
    time.sleep(delay_s)
    answers.put((contender, label(manifest, store, contender)))


def race(manifest: Path, store: Path, kind: str, rng: random.Random) -> list[tuple[tuple[str, float], str]]:
    """Let both begin within a few milliseconds: (contender, how it was refused) of each."""
    fork = multiprocessing.get_context("fork")
    start, answers = fork.Barrier(2), fork.Queue()
    runs = [
        fork.Process(target=contend, args=(manifest, store, contender, rng.uniform(0, 0.004), start, answers))
        for contender in CONTENDERS[kind]
    ]
    for run in runs:
        run.start()
    ended = [answers.get(timeout=60) for _ in runs]
    for run in runs:
        run.join()
    return ended


def faults(manifest: Path, store: Path, ended: list[tuple[tuple[str, float], str]]) -> list[str]:
    """What is wrong with how a race ended."""
    found = [f"{how}" for _, how in ended if how and not how.startswith(("StoreError", "TeacherError"))]
    winners = [contender for contender, how in ended if not how]
    if len(winners) != 1:
        return [*found, f"{len(winners)} winners: {[how for _, how in ended]}"]
    with tempfile.TemporaryDirectory() as folder:
        alone = Path(folder) / "store"
        label(manifest, alone, winners[0])
        names = sorted(p.relative_to(alone) for p in alone.rglob("*") if p.is_file() and p.name != "probe_cache.jsonl")
        for name in names:
            try:
                if (store / name).read_bytes() != (alone / name).read_bytes():
                    found.append(f"{name} is not the winner's")
            except OSError as e:
                found.append(str(e))
    try:
        found += verify(softlabels.open(store), jobs=1).problems
    except softlabels.SoftLabelsError as e:
        found.append(str(e))
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--races", type=int, default=100)
    races, rng, bad = parser.parse_args().races, random.Random(SEED), dict.fromkeys(CONTENDERS, 0)
    with tempfile.TemporaryDirectory() as folder:
        manifest = make_corpus(Path(folder))
        label(manifest, Path(folder) / "warm", CONTENDERS["teachers"][0])
        for kind in CONTENDERS:
            shown: set[str] = set()
            for number in range(races):
                store = Path(folder) / f"{kind}-{number}"
                found = faults(manifest, store, race(manifest, store, kind, rng))
                bad[kind] += bool(found)
                shown |= set(found)
            print(f"{kind}: {bad[kind]} bad stores of {races}")
            for each in sorted(shown)[:5]:
                print("   ", each.replace(folder, "")[:300])
    return 1 if any(bad.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
