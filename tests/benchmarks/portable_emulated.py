"""Do portable stores have the same bytes on an older CPU? Label natively and under an emulated one, and compare.

    python tests/benchmarks/portable_emulated.py [--clips 2] [--cpu Nehalem-v1]

Needs qemu-x86_64 (Debian: qemu-user). The real BirdNET labels a few clips of the corpus in a process of its own,
once on this machine's CPU and once on the emulated one, with and without --portable. Exits 1 if the portable
bytes differ.
"""

import argparse
import json
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
LABEL = """
import hashlib, sys
from pathlib import Path
import pipeline, softlabels
store, portable, count = Path(sys.argv[1]), sys.argv[2] == "portable", int(sys.argv[3])
clips = softlabels.read_manifest("data_manifest.csv")[:count]
pipeline.run(clips, store, root=".", teacher=pipeline.TeacherChoice(portable=portable),
             options=pipeline.RunOptions(backend="sequential"))
print(*[hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted((store / "shards").iterdir())])
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=2)
    parser.add_argument("--cpu", default="Nehalem-v1", help="as qemu-x86_64 -cpu help lists them")
    args = parser.parse_args()
    qemu = shutil.which("qemu-x86_64")
    if qemu is None:
        print("skipped: qemu-x86_64 is not installed (Debian: apt-get install qemu-user)")
        return 0
    print(f"machine: {platform.machine()}, Python {platform.python_version()}, emulated: {args.cpu}")
    figures = {}
    with tempfile.TemporaryDirectory() as folder:
        for level in ("portable", "default"):
            native, native_s = label([], Path(folder) / f"{level}-native", level, args.clips)
            emulated, emulated_s = label([qemu, "-cpu", args.cpu], Path(folder) / f"{level}-old", level, args.clips)
            figures[level] = {"identical": native == emulated, "shards": len(native)}
            same = "identical" if native == emulated else "different"
            print(f"{level:<10}{same:<12}{native_s:.0f} s natively, {emulated_s:.0f} s emulated")
    print(json.dumps({"good": figures["portable"]["identical"], "clips": args.clips, "cpu": args.cpu, **figures}))
    return 0 if figures["portable"]["identical"] else 1


def label(prefix: list[str], store: Path, level: str, clips: int) -> tuple[list[str], float]:
    """Digests of the shards that one process makes, and its seconds."""
    began = time.monotonic()
    command = [*prefix, sys.executable, "-c", LABEL, store, level, clips]
    done = subprocess.run(list(map(str, command)), cwd=REPOSITORY, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{level}: labelling failed:\n{done.stderr[-2000:]}")
    return done.stdout.split(), time.monotonic() - began


if __name__ == "__main__":
    sys.exit(main())
