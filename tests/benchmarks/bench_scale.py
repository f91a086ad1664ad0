"""From opening a store to the first batch, and the memory that takes, without and with the saved join.

    python tests/benchmarks/bench_scale.py STORE [--clean] [--drop-pages]

STORE is the folder `soft_labels` of `synthetic_store.py`, its data_manifest.csv beside it. The join is kept in a folder
`bench_scale_joins` beside the store, emptied before each cold start; --clean deletes it in the end. Every measurement
is a process of its own; its time begins behind the imports, which are printed apart, and ends with the first
`[hard | soft]` batch of 64 rows of a shuffled order, by `y_true` or out of tf.data through `attach`. The files are as
warm as they are found; --drop-pages lets the system forget those of the store and the join before each start.
RssAnon comes from /proc, 50 times a second: its peak up to the first batch, and what is in use after 1,000 more.
The last line of stdout is one JSON object; exits 1 if a target is missed.
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

BATCH, MORE_BATCHES = 64, 1000
MB = 1_000_000
SECONDS = {1_000_000: (5.0, 1.0), 10_000_000: (60.0, 2.0)}  # rows: cold, with the saved join
IN_USE = (24, 300 * MB)  # bytes a row, and bytes
BUILDING = (100, 1000 * MB)


def first_batch(store: Path, cache: Path, how: str) -> dict[str, float]:
    """What the child process does: import, open, join, one batch, 1,000 more."""
    began = time.perf_counter()
    import softlabels

    attach = softlabels.attach if how == "tf.data" else None  # loads TensorFlow
    imported = time.perf_counter()
    labels = softlabels.open(store).join(store.parent / "data_manifest.csv", cache_dir=cache)
    joined = time.perf_counter()
    order = np.arange(len(labels), dtype=np.int32)
    np.random.default_rng(0).shuffle(order)
    batches = iter(tf_data_batches(labels, order, attach) if attach else numpy_batches(labels, order))
    next(batches)
    first = time.perf_counter()
    print(json.dumps({"event": "first"}), flush=True)
    for _ in range(min(MORE_BATCHES, len(order) // BATCH - 1)):
        next(batches)
    figures = {"import_s": imported - began, "join_s": joined - imported, "first_s": first - imported}
    return {"rows": len(labels), "classes": len(labels.classes), **figures}


def numpy_batches(labels, order: np.ndarray):
    return (labels.y_true(order[i : i + BATCH]) for i in range(0, len(order), BATCH))


def tf_data_batches(labels, order: np.ndarray, attach):
    import tensorflow as tf

    rows = tf.data.Dataset.from_tensor_slices(order).batch(BATCH)
    elements = rows.map(lambda row: {"row": row, "x": tf.zeros_like(row, tf.float32)})
    return elements.map(attach(labels)).prefetch(2)


def child(store: Path, cache: Path, how: str) -> None:
    print(json.dumps({"event": "done", **first_batch(store, cache, how)}), flush=True)
    sys.stdin.read()  # until the parent has looked at the memory


def measure(store: Path, cache: Path, how: str) -> dict[str, float]:
    """One start in a fresh process, its memory watched from outside."""
    command = [sys.executable, __file__, str(store), "--child", how, str(cache)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    os.set_blocking(process.stdout.fileno(), False)
    said, peak = b"", 0
    while b'"done"' not in said or not said.endswith(b"\n"):
        if process.poll() is not None:
            raise SystemExit(f"exited {process.returncode}: {' '.join(command)}")
        now = rss_anon(process.pid)
        if b'"first"' not in said:
            peak = max(peak, now)
        said += process.stdout.read() or b""
        time.sleep(0.02)
    figures = json.loads(said.splitlines()[-1])
    in_use = rss_anon(process.pid)
    process.communicate()
    return {**figures, "building_bytes": peak, "in_use_bytes": in_use}


def rss_anon(pid: int) -> int:
    """Bytes of private memory; 0 once the process is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return sum(1024 * int(line.split()[1]) for line in lines if line.startswith("RssAnon"))


def drop_pages(folder: Path) -> None:
    """Let the system forget what it cached of the files in a folder."""
    for path in folder.rglob("*"):
        if path.is_file():
            descriptor = os.open(path, os.O_RDONLY)
            os.fsync(descriptor)  # only clean pages can go
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)


def measure_all(store: Path, cache: Path, forget: bool) -> dict[str, dict[str, float]]:
    """(cold, saved) x (y_true, tf.data) -> figures."""
    results = {}
    for how in ("y_true", "tf.data"):
        shutil.rmtree(cache, ignore_errors=True)
        for state in ("cold", "saved"):
            for folder in (store, cache) if forget else ():
                drop_pages(folder)
            results[f"{state} {how}"] = measure(store, cache, how)
    return results


def judge(results: dict[str, dict[str, float]]) -> list[tuple[str, float, float, str]]:
    """(figure, value, target, unit); memory is judged without TensorFlow, which brings its own."""
    rows = int(results["cold y_true"]["rows"])
    cold, saved = SECONDS[min(SECONDS, key=lambda size: abs(size - rows))]
    limits = {"cold": cold, "saved": saved}
    lines = [(f"{start}: first batch", r["first_s"], limits[start.split()[0]], "s") for start, r in results.items()]
    memory = [("building", BUILDING, "cold"), ("in_use", IN_USE, "cold"), ("in_use", IN_USE, "saved")]
    for name, (per_row, fixed), start in memory:
        target = (per_row * rows + fixed) / MB
        lines.append((f"{start}: RssAnon {name}", results[f"{start} y_true"][f"{name}_bytes"] / MB, target, "MB"))
    return lines


def report(results: dict[str, dict[str, float]]) -> bool:
    """Print everything; whether all targets are met."""
    print("start           import s   join s   first batch s   peak MB before it   MB in use after")
    for start, figures in results.items():
        print(
            f"{start:<14}  {figures['import_s']:>8.2f}   {figures['join_s']:>6.2f}   {figures['first_s']:>13.2f}   "
            f"{figures['building_bytes'] / MB:>17,.0f}   {figures['in_use_bytes'] / MB:>15,.0f}"
        )
    print()
    lines = judge(results)
    for name, value, target, unit in lines:
        verdict = "met" if value <= target else "MISSED"
        print(f"{name:<28} {value:>10,.2f} {unit:<2}  target {target:>8,.1f} {unit:<2}  {verdict}")
    return all(value <= target for _, value, target, _ in lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path)
    parser.add_argument("--clean", action="store_true", help="delete the saved joins in the end")
    parser.add_argument("--drop-pages", action="store_true", help="start with the files out of the page cache")
    parser.add_argument("--child", nargs=2, metavar=("HOW", "CACHE"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    store = arguments.store.resolve()
    if arguments.child:
        child(store, Path(arguments.child[1]), arguments.child[0])
        return 0
    import softlabels

    cache = store.parent / "bench_scale_joins"
    print(f"{platform.machine()}, {os.cpu_count()} cores; Python {platform.python_version()}; numpy {np.__version__}")
    print(f"{softlabels.open(store)}, pages {'dropped' if arguments.drop_pages else 'as found'}", flush=True)
    results = measure_all(store, cache, arguments.drop_pages)
    good = report(results)
    if arguments.clean:
        shutil.rmtree(cache)
    print(json.dumps({"good": good, **results}))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
