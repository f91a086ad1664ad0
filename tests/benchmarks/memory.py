"""Memory of a worker from 1,000 to 100,000 windows, by a stand-in teacher of BirdNET's 6,522 classes.

    python tests/benchmarks/memory.py [--windows 1000 10000 100000] [--shard-windows 512] [--layout dense]

Each size is a `softlabels run --jobs 1` of its own, shards of equal size, so only their number grows. The teacher
answers out of a small table, which keeps the store compressible and the run short. Sampled 50 times a second from
/proc: the worker's private memory (RssAnon) and its peak resident set (VmHWM, as the kernel keeps it); the
supervisor's beside it. The last line of stdout is one JSON object; exits 1 if the worker grows by more than 5 % or
beyond 600 MB.
"""

import argparse
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile

from softlabels import ClassList

HERE = Path(__file__).resolve().parent
CLASSES, RATE_HZ, WINDOW_SAMPLES, WINDOWS_OF_CLIP = 6522, 8000, 80, 100
LIMIT_MB, TOLERANCE = 600, 0.05


class Table:
    """Sixteen rows of logits, chosen by a window's first sample."""

    name, digest, notice = "table", "7a" * 32, ""
    classes = ClassList(tuple(f"Avis dubia{i}_Bird {i}" for i in range(CLASSES)))
    rate_hz, window_samples, batch_size = RATE_HZ, WINDOW_SAMPLES, 16
    activation, outputs = "sigmoid", "logits"

    def __init__(self) -> None:
        self.table = np.random.default_rng(0).normal(-10, 3, (16, CLASSES)).astype(np.float32)

    def score(self, windows: np.ndarray) -> np.ndarray:
        return self.table[(windows[:, 0] * 32768).astype(int) % 16]  # (batch, classes)


def teacher() -> Table:
    return Table()


def make_corpus(folder: Path, windows: int) -> Path:
    folder.mkdir()
    rng, rows = np.random.default_rng(0), ["clip_id,path"]
    for clip in range(windows // WINDOWS_OF_CLIP):
        samples = rng.integers(-9999, 9999, WINDOWS_OF_CLIP * WINDOW_SAMPLES, dtype=np.int16)
        soundfile.write(folder / f"{clip:05d}.wav", samples, RATE_HZ)
        rows.append(f"{clip:05d},{clip:05d}.wav")
    manifest = folder / "data_manifest.csv"
    manifest.write_text("\n".join(rows) + "\n")
    return manifest


def watch(process: subprocess.Popen) -> dict[str, float]:
    """Highest memory in MB of the process and of its busiest child, until it ends."""
    highest: dict[str, float] = {}
    while process.poll() is None:
        for pid in [process.pid, *children(process.pid)]:
            who = "supervisor" if pid == process.pid else "worker"
            for name, value in memory_mb(pid).items():
                highest[f"{who}_{name}"] = max(highest.get(f"{who}_{name}", 0.0), value)
        time.sleep(0.02)
    return highest


def children(pid: int) -> list[int]:
    try:
        lists = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children")]
    except OSError:
        return []
    return [int(child) for text in lists for child in text.split()]


def memory_mb(pid: int) -> dict[str, float]:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return {}
    fields = {line.split(":")[0]: line.split() for line in lines}
    names = {"private": "RssAnon", "peak": "VmHWM"}
    return {name: int(fields[field][1]) / 1000 for name, field in names.items() if field in fields}


def measure(windows: int, shard_windows: int, layout: str) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        manifest = make_corpus(folder / "corpus", windows)
        command = [sys.executable, "-m", "pipeline", "run", str(manifest), "-o", str(folder / "store"), "--jobs", "1"]
        command += ["--teacher", "memory:teacher", "--shard-windows", str(shard_windows), "--layout", layout]
        path = os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])
        began = time.monotonic()
        process = subprocess.Popen(
            command,
            cwd=HERE.parent.parent,
            env={**os.environ, "PYTHONPATH": path},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        highest = watch(process)
        if process.returncode:
            raise SystemExit(f"the run exited {process.returncode}: {' '.join(command)}")
    return {"windows": windows, "seconds": round(time.monotonic() - began, 1), **highest}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--windows", type=int, nargs="+", default=[1000, 10_000, 100_000])
    parser.add_argument("--shard-windows", type=int, default=512)
    parser.add_argument("--layout", choices=["dense", "sparse"], default="dense")
    args = parser.parse_args()
    pyarrow = importlib.metadata.version("pyarrow")
    print(f"{platform.machine()}, {os.cpu_count()} cores; Python {platform.python_version()}; pyarrow {pyarrow}")
    print("windows   worker private MB   worker peak MB   supervisor peak MB   seconds")
    rows = []
    for windows in args.windows:
        row = measure(windows, args.shard_windows, args.layout)
        print(
            f"{windows:>7,}   {row['worker_private']:>17.1f}   {row['worker_peak']:>14.1f}   "
            f"{row['supervisor_peak']:>18.1f}   {row['seconds']:>7.1f}",
            flush=True,
        )
        rows.append(row)
    ratio = {name: round(rows[-1][name] / rows[0][name], 3) for name in ("worker_private", "worker_peak")}
    print(f"ratio of the largest to the smallest: private {ratio['worker_private']}, peak {ratio['worker_peak']}")
    print(json.dumps({"rows": rows, "ratio": ratio, "shard_windows": args.shard_windows, "layout": args.layout}))
    steady = all(abs(value - 1) <= TOLERANCE for value in ratio.values())
    return 0 if steady and rows[-1]["worker_peak"] <= LIMIT_MB else 1


if __name__ == "__main__":
    sys.exit(main())
