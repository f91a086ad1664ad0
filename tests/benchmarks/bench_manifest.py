"""How long `softlabels manifest DIR --sha256` takes for a tree of 10,000 recordings, and whether it repeats itself.

    python tests/benchmarks/bench_manifest.py [--files 10000] [--seconds 0.1] [--runs 3]

Makes the tree (100 folders, 16-bit WAV at 24 kHz, no two files alike), then times the command in processes of its own,
start to end, once as `find` and `sha256sum` do it, and compares the manifests byte by byte. The files are in the
system's cache, as they were just written. The last line is one JSON object; exits 1 if a target is missed.
"""

import argparse
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

RATE_HZ, FOLDERS = 24_000, 100
MOST_SECONDS = 60  # for 10,000 files on 2 cores


def make_tree(folder: Path, files: int, seconds: float) -> None:
    rng = np.random.default_rng(0)
    for i in range(files):
        path = folder / f"Genus species{i % FOLDERS}_Bird {i % FOLDERS}" / f"{i:06}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, rng.integers(-9000, 9000, round(seconds * RATE_HZ), np.int16), RATE_HZ)


def timed(command: list[str | Path], folder: Path) -> float:
    began = time.perf_counter()
    subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=600)
    return time.perf_counter() - began


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=0.1, help="of each recording")
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        make_tree(folder / "audio", options.files, options.seconds)
        peer = timed(["sh", "-c", "find audio -type f -print0 | sort -z | xargs -0 sha256sum > sums.txt"], folder)
        command = [sys.executable, "-m", "pipeline", "manifest", "audio", "--sha256", "-o"]
        took = [timed([*command, f"{run}.csv"], folder) for run in range(options.runs)]
        written = [(folder / f"{run}.csv").read_bytes() for run in range(options.runs)]
    identical = len(set(written)) == 1 and written[0].count(b"\n") == options.files + 1
    most = MOST_SECONDS * options.files / 10_000
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    print(f"{options.files:,} files of {options.seconds:g} s, {len(written[0]):,} bytes of manifest, target {most:g} s")
    print(f"find | sort | sha256sum       {peer:6.2f} s")
    print(f"softlabels manifest --sha256  {max(took):6.2f} s at most ({', '.join(f'{t:.2f}' for t in took)})")
    print(f"identical bytes               {identical}")
    print(json.dumps({"files": options.files, "seconds": took, "sha256sum_s": peer, "identical": identical}))
    return 0 if identical and max(took) <= most else 1


if __name__ == "__main__":
    sys.exit(main())
