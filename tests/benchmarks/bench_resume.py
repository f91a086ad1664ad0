"""How long `softlabels run` takes to see that a finished store of many small shards needs nothing.

    python tests/benchmarks/bench_resume.py [--shards 10000] [--runs 5] [--keep FOLDER]

Makes a store with one window a shard by the stand-in teacher (through the library, in this process), then times
`softlabels run` on it in a process of its own, which has to say "nothing to do"; `--dry-run` beside it, which
stops after planning. With strace, also lists what a run opens: no audio file and no shard. The last line of
stdout is one JSON object; exits 1 above 2 seconds, or if anything was opened that should not be.
"""

import argparse
import importlib.metadata
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from unittest import mock

import numpy as np
import soundfile

import pipeline
import softlabels
from pipeline import LabelOptions, RunOptions

TESTS = Path(__file__).resolve().parent.parent
LIMIT_S = 2.0


def build(folder: Path, shards: int) -> None:
    """A corpus of `shards` clips of one window each, and its finished store."""
    (folder / "audio").mkdir(parents=True)
    samples = np.random.default_rng(0).uniform(-0.4, 0.4, (shards, 800)).astype(np.float32)
    for clip in range(shards):
        soundfile.write(folder / "audio" / f"{clip:06d}.wav", samples[clip], 8000)
    rows = [f"{clip:06d},audio/{clip:06d}.wav" for clip in range(shards)]
    (folder / "data_manifest.csv").write_text("\n".join(["clip_id,path", *rows]) + "\n")
    sys.path.insert(0, str(TESTS))
    with mock.patch("os.fsync"):  # this store need not survive a power cut, and is made ten times as fast
        summary = pipeline.run(
            folder / "data_manifest.csv",
            folder / "store",
            teacher="standin:teacher",
            labelling=LabelOptions(shard_windows=1),
            options=RunOptions(backend="sequential"),
        )
    if summary.labelled != shards or len(softlabels.open(folder / "store").receipts) != shards:
        raise SystemExit(f"the store is not what it should be: {summary}")


def command(folder: Path) -> list[str]:
    arguments = ["run", str(folder / "data_manifest.csv"), "-o", str(folder / "store"), "--teacher", "standin:teacher"]
    return [sys.executable, "-m", "pipeline", *arguments, "--jobs", "2"]


def resume(folder: Path, *flags: str, prefix: tuple[str, ...] = ()) -> tuple[float, str]:
    """(seconds, stdout) of one `softlabels run`."""
    path = os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])
    began = time.perf_counter()
    done = subprocess.run(
        [*prefix, *command(folder), *flags],
        cwd=TESTS.parent,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    return time.perf_counter() - began, done.stdout


def opened(folder: Path) -> dict[str, int] | None:
    """What a run opens below the folder, counted by kind; None where strace cannot look."""
    if not shutil.which("strace"):
        return None
    trace = folder / "trace.txt"
    try:
        resume(folder, prefix=("strace", "-f", "-qq", "-e", "trace=openat,open,openat2", "-o", str(trace)))
    except subprocess.CalledProcessError as e:
        print(f"strace cannot look: {e.stderr[:200]}")
        return None
    paths = [match[1] for match in re.finditer(r'"([^"]*)"', trace.read_text(errors="replace"))]
    patterns = {"audio": r"\.wav$", "shards": r"/store/shards/.", "receipts": r"/store/receipts/."}
    return {kind: sum(bool(re.search(pattern, path)) for path in paths) for kind, pattern in patterns.items()}


def measure(folder: Path, runs: int) -> dict[str, object]:
    times, said = [], ""
    for _ in range(runs):
        seconds, said = resume(folder)
        times.append(seconds)
    planning = min(resume(folder, "--dry-run")[0] for _ in range(runs))
    return {
        "seconds": round(float(np.median(times)), 2),
        "slowest": round(max(times), 2),
        "dry_run_seconds": round(planning, 2),
        "nothing_to_do": "nothing to do" in said,
        "opened": opened(folder),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shards", type=int, default=10_000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="make the store here, or find it here")
    args = parser.parse_args()
    pyarrow = importlib.metadata.version("pyarrow")
    print(f"{platform.machine()}, {os.cpu_count()} cores; Python {platform.python_version()}; pyarrow {pyarrow}")
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.keep.resolve() if args.keep else Path(temporary)
        if not (folder / "store" / "_SUCCESS-0001.json").exists():
            began = time.monotonic()
            build(folder, args.shards)
            print(f"made {args.shards:,} shards in {time.monotonic() - began:.0f} s")
        figures = {"shards": args.shards, **measure(folder, args.runs)}
    for name, value in figures.items():
        print(f"{name:<18}{value}")
    touched = figures["opened"] or {}
    good = figures["nothing_to_do"] and figures["seconds"] <= LIMIT_S
    good = good and not touched.get("audio") and not touched.get("shards")
    print(json.dumps(figures))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
