"""Files of a user that have the names of modules, beside the teacher, beside the manifest, in front of `sys.path`.

    python tests/benchmarks/shadows.py [--engines]

Labels a small corpus in a folder of files that raise as soon as they are imported (`pipeline.py`, `softlabels.py`,
`numpy.py`, `types.py`, `queue.py`, `random.py` and more), by the script `softlabels`, by `python -m pipeline`, by
`python -P -m pipeline` and from Python, with a teacher that puts its own folder in front of `sys.path`, too; with
--engines on Dask and Ray as well. Prints one line a case and how many did not label every window.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile

REPOSITORY = Path(__file__).resolve().parents[2]
NAMES = ["pipeline", "softlabels", "numpy", "types", "queue", "random", "joblib"]
NAMES += ["av", "soundfile", "signal", "platform", "secrets", "json"]
BEFORE_US = {"types", "signal", "json"}  # `python -m` itself imports them before any code of ours
TEACHER = "from standin import StandIn\n\ndef make():\n    return StandIn()\n"
IN_FRONT = "import os, sys\nsys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))\n"
FLAGS = ["-o", "store", "--teacher", "mine:make", "--jobs", "2", "--shard-windows", "3"]
CALL = "import pipeline; print(pipeline.run('audio/m.csv', 'store', teacher='mine:make', jobs=2).labelled)"
SCRIPT = "import sys; from pipeline.cli.commands import main; sys.exit(main())"
WAYS = {
    "softlabels": ["-P", "-c", SCRIPT, "run", "audio/m.csv", *FLAGS],  # a console script has no current folder either
    "python -m": ["-m", "pipeline", "run", "audio/m.csv", *FLAGS],
    "python -P -m": ["-P", "-m", "pipeline", "run", "audio/m.csv", *FLAGS],
    "from Python": ["-P", "-c", f"if __name__ == '__main__':\n    {CALL}"],
}


def corpus(folder: Path, names: list[str], *, in_front: bool) -> None:
    """Six clips, a teacher, and files that nobody may import."""
    (folder / "audio").mkdir(parents=True)
    for i in range(6):
        soundfile.write(folder / f"audio/c{i}.wav", np.random.default_rng(i).uniform(-0.4, 0.4, 2400), 8000)
    (folder / "audio/m.csv").write_text("clip_id,path\n" + "".join(f"c{i},c{i}.wav\n" for i in range(6)))
    shutil.copy(REPOSITORY / "tests/standin.py", folder / "standin.py")
    (folder / "mine.py").write_text((IN_FRONT if in_front else "") + TEACHER)
    for name in names:
        for place in (folder, folder / "audio"):
            (place / f"{name}.py").write_text(f"raise RuntimeError('this is not the {name} that was meant')\n")


def case(way: str, names: list[str], *, in_front: bool = False, flags: tuple[str, ...] = ()) -> bool:
    """Whether all 18 windows were labelled; a line of how it ended."""
    with tempfile.TemporaryDirectory() as folder:
        corpus(Path(folder, "work"), names, in_front=in_front)
        command = [sys.executable, *WAYS[way], *flags]
        env = {k: v for k, v in os.environ.items() if k != "PYTHONSAFEPATH"} | {"PYTHONPATH": str(REPOSITORY)}
        began = time.monotonic()
        done = subprocess.run(
            command, cwd=Path(folder, "work"), env=env, capture_output=True, text=True, timeout=300, check=False
        )
        good = done.returncode == 0 and "18" in done.stdout
        how = "in front of sys.path" if in_front else "beside"
        last = "" if good else (done.stderr.strip().splitlines() or [""])[-1][:150]
        sys.stdout.write(
            f"{'ok' if good else 'FAILED'}  {time.monotonic() - began:.1f} s  {way} {' '.join(flags)}  {how}  "
            f"{' '.join(names)}  {last}\n"
        )
        sys.stdout.flush()
        return good


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engines", action="store_true")
    options = parser.parse_args()
    results = []
    for way in WAYS:
        names = [name for name in NAMES if way != "python -m" or name not in BEFORE_US | {"pipeline"}]
        results += [case(way, names, in_front=in_front) for in_front in (False, True)]
    results += [case("softlabels", [name]) for name in NAMES]
    results.append(case("softlabels", NAMES, flags=("--backend", "sequential")))
    if options.engines:
        results += [case("softlabels", NAMES, in_front=f, flags=("--backend", "ray")) for f in (False, True)]
        with tempfile.TemporaryDirectory() as folder:
            results.append(_on_dask(Path(folder)))
    sys.stdout.write(f"{len(results)} cases, {results.count(False)} failed\n")
    sys.exit(results.count(False) > 0)


def _on_dask(folder: Path) -> bool:
    corpus(folder / "there", NAMES, in_front=False)
    env = {**os.environ, "PYTHONPATH": str(REPOSITORY), "PYTHONSAFEPATH": "1"}
    address = "tcp://127.0.0.1:18786"
    there = {"cwd": folder / "there", "env": env, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    dask = str(Path(sys.executable).with_name("dask"))
    scheduler = subprocess.Popen([dask, "scheduler", "--port", "18786", "--no-dashboard"], **there)
    worker = subprocess.Popen(
        [dask, "worker", address, "--nthreads", "1", "--nworkers", "2", "--no-dashboard"], **there
    )
    try:
        return case("softlabels", NAMES, flags=("--backend", "dask", "--address", address))
    finally:
        for process in (worker, scheduler):
            process.terminate()
            process.wait()


if __name__ == "__main__":
    main()
