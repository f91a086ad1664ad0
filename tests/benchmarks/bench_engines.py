"""How fast Dask and Ray label with two workers, beside loky, on the same work.

    python tests/benchmarks/bench_engines.py [--rounds 5] [--shards 40] [--engines loky dask ray]

A stand-in teacher computes some milliseconds a window on one core. Each run is `softlabels run` as a library in a
process of its own, the engines in turn, `--rounds` times. The rate is taken between the first shard that comes back
and the last; what is before it (scheduler, workers, their first teacher) is the start-up, given apart. Dask's
scheduler and workers run already, as they do on a cluster. Compared are the fastest runs of each, for what else goes
on on the machine only makes a run slower. The last line of stdout is one JSON object; exits 1 where an engine is slower
than loky by more than 10 %.
"""

import argparse
import contextlib
import hashlib
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

TESTS = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(TESTS), str(Path(__file__).parent)]

import soundfile  # noqa: E402
from standin import StandIn  # noqa: E402

import pipeline  # noqa: E402
from pipeline import LabelOptions, RunEvents, RunOptions  # noqa: E402

WINDOWS, LIMIT = 64, 1.10  # windows a shard


class Busy(StandIn):
    """Computes about 8 ms a window."""

    digest = hashlib.sha256(b"busy").hexdigest()

    def score(self, windows: np.ndarray) -> np.ndarray:
        until = time.process_time() + 0.008 * len(windows)
        while time.process_time() < until:
            np.fft.rfft(windows)
        return super().score(windows)


def busy() -> Busy:
    return Busy()


def measure(folder: Path, engine: str, address: str | None) -> dict[str, float]:
    """{"start_s", "windows_per_s"} of one run in this process."""
    began, times, store = time.monotonic(), [], Path(tempfile.mkdtemp(dir=folder)) / "store"
    summary = pipeline.run(
        folder / "data_manifest.csv",
        store,
        teacher="bench_engines:busy",
        jobs=2,
        labelling=LabelOptions(shard_windows=WINDOWS),
        options=RunOptions(backend=engine, address=address),
        events=RunEvents(on_shard=lambda status: times.append(time.monotonic())),
    )
    if summary.missing or summary.quarantined:
        raise SystemExit(f"{engine}: {summary}")
    rate = WINDOWS * (len(times) - 1) / (times[-1] - times[0])
    return {"start_s": times[0] - began, "windows_per_s": rate}


def write_corpus(folder: Path, shards: int) -> None:
    """One clip a shard."""
    random = np.random.default_rng(0)
    for i in range(shards):
        samples = random.uniform(-0.4, 0.4, WINDOWS * StandIn.window_samples)
        soundfile.write(folder / f"c{i}.wav", samples, StandIn.rate_hz)
    rows = [f"c{i},c{i}.wav" for i in range(shards)]
    (folder / "data_manifest.csv").write_text("\n".join(["clip_id,path", *rows]) + "\n")


def measure_apart(folder: Path, engine: str, address: str | None) -> dict[str, float]:
    """The same in a process of its own."""
    command = [sys.executable, __file__, "--one", engine, "--folder", str(folder)]
    command += ["--address", address] if address else []
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, env=environment())
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join([*sys.path[:2], str(TESTS.parent)])}


@contextlib.contextmanager
def dask_cluster(wanted: bool):
    """The address of a scheduler with two workers."""
    if not wanted:
        yield None
        return
    os.environ.update(environment())
    from test_engines import dask_scheduler, dask_workers

    with dask_scheduler() as (address, _), dask_workers(address, 2, PYTHONPATH=os.environ["PYTHONPATH"]):
        yield address


def print_table(runs: dict[str, list[dict[str, float]]]) -> dict[str, dict[str, float]]:
    """engine -> its fastest run, and loky's rate divided by its."""
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    packages = ["joblib", *(p for p in ("distributed", "ray", "joblibspark") if p in installed())]
    print(", ".join(f"{package} {importlib.metadata.version(package)}" for package in packages))
    fastest = {engine: max(of_engine, key=lambda run: run["windows_per_s"]) for engine, of_engine in runs.items()}
    print(f"{'engine':<8}{'start-up s':>12}{'windows/s':>12}{'time / loky':>13}")
    for engine, run in fastest.items():
        run["time_by_loky"] = fastest["loky"]["windows_per_s"] / run["windows_per_s"]
        rate = f"{run['windows_per_s']:.1f}"
        print(f"{engine:<8}{run['start_s']:>12.1f}{rate:>12}{run['time_by_loky']:>13.3f}")
    return fastest


def installed() -> set[str]:
    return {distribution.name for distribution in importlib.metadata.distributions()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--shards", type=int, default=40)
    parser.add_argument("--engines", nargs="+", default=["loky", "dask", "ray"])
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--address", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(measure(args.folder, args.one, args.address)))
        return 0
    runs: dict[str, list[dict[str, float]]] = {engine: [] for engine in args.engines}
    with tempfile.TemporaryDirectory() as name, dask_cluster("dask" in runs) as address:
        write_corpus(Path(name), args.shards)
        for _ in range(args.rounds):
            for engine, of_engine in runs.items():
                of_engine.append(measure_apart(Path(name), engine, address if engine == "dask" else None))
    fastest = print_table(runs)
    print(json.dumps({"rounds": args.rounds, "shards": args.shards, "fastest": fastest, "runs": runs}))
    return int(any(run["time_by_loky"] > LIMIT for run in fastest.values()))


if __name__ == "__main__":
    sys.exit(main())
