"""What components cost: bytes and processor time a window with and without them, side by side, and the fit.

    python tests/benchmarks/bench_components.py [--rounds 9]

Labels the repository's corpus with the real BirdNET and keeps the ten classes of `tests/corpus/classes.txt`: two
stores, and then the shard of each made again in turn, in this process, one thread. Exits 1 if components take more than
200 bytes or 3 % of the time.
"""

import argparse
import os
import platform
import sys
import tempfile
import time
from pathlib import Path

for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):  # as in a worker of as many as there are cores
    os.environ[name] = "1"

import numpy as np  # noqa: E402

import pipeline  # noqa: E402
import softlabels  # noqa: E402
from pipeline.checking.regenerate import planned_clips, shard_task  # noqa: E402
from pipeline.checking.sources import find_sources  # noqa: E402
from pipeline.labelling.worker import make_shard  # noqa: E402

REPOSITORY = Path(__file__).resolve().parents[2]
MOST_BYTES, MOST_TIME = 200, 1.03


def label(store: Path, components: int) -> tuple[softlabels.SoftLabelStore, float]:
    """A store with so many components in one shard, and the seconds that all of it took."""
    began = time.perf_counter()
    kept = REPOSITORY / "tests/corpus/classes.txt"
    labelling = pipeline.LabelOptions(keep_classes=kept, components=components, shard_windows=1024)
    options = pipeline.RunOptions(backend="sequential")
    pipeline.run(REPOSITORY / "data_manifest.csv", store, labelling=labelling, options=options)
    return softlabels.open(store), time.perf_counter() - began


def seconds(store: softlabels.SoftLabelStore) -> float:
    """Processor time of making the shard again."""
    sources = find_sources(store, root=REPOSITORY, teacher=None, model=None)
    task = shard_task(store, 0, planned_clips(store, [0])[0], sources=sources)
    began = time.process_time()
    make_shard(task)
    return time.process_time() - began


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    args = parser.parse_args()
    print(f"{platform.machine()}, Python {platform.python_version()}, NumPy {np.__version__}")
    with tempfile.TemporaryDirectory() as folder:
        label(Path(folder) / "warm", 0)
        stores, wholes = zip(*(label(Path(folder) / str(n), n) for n in (0, 64)), strict=True)
        size = [store.receipts[0].size / len(store) for store in stores]
        times = np.array([[seconds(store) for store in stores] for _ in range(args.rounds)])  # (rounds, 2)
        ratios = times[:, 1] / times[:, 0]
        windows = len(stores[0])
        a, b = np.median(times, axis=0) / windows * 1e3
        print(f"{windows} windows, {stores[1].spec.components} components; the fit: {wholes[1] - wholes[0]:.1f} s more")
        print(f"bytes a window: {size[0]:.0f} without, {size[1]:.0f} with: {size[1] - size[0]:.0f} more")
        print(f"ms a window: {a:.2f} without, {b:.2f} with; ratio {np.median(ratios):.3f} (median of {args.rounds})")
    return int(size[1] - size[0] > MOST_BYTES or np.median(ratios) > MOST_TIME)


if __name__ == "__main__":
    sys.exit(main())
