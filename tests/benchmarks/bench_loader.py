"""Shuffled `[hard | soft]` batches beside memcpy and other loaders, and the scan beside bare Parquet reading.

    python tests/benchmarks/bench_loader.py [FOLDER] [--tables memory loaders scan] [--batch 64] [--rounds 3]

FOLDER keeps two synthetic stores, 100 and 6,522 classes, and what Hugging Face makes of them; without it all is made
in a temporary folder. Candidates take turns, the best of all rounds counts. Everybody reads from a warm page cache.

memory: `labels.y_true(rows, out=out)` in shuffled order, `np.copyto` of as many bytes, always another stretch of an
array as large as the soft labels, and `np.take` of the soft half alone out of that array, which is what reading
rows at random costs.
loaders: rows a second of a shuffled pass, from making the iterator to its last batch. Peers that give tensors are held
against ours in tf.data (where a batch is small, the labels of up to 16 come from one call, as the README of the labels
shows), grain, which gives NumPy, against ours in NumPy. Peers get it easy: Hugging Face and grain over
Arrow bring the soft half only; "rows in memory" is `[hard | soft]` made beforehand.
scan: `store.read()` of a freshly opened store, digests and page checksums verified, against `read_row_group(0)` of
the same files. The last line of stdout is one JSON object of ratios, ours over the peer's; above 1 is faster.
"""

import argparse
import importlib.metadata
import json
import os
import platform
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import datasets
import grain
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import tensorflow as tf
from synthetic_store import write_store

import softlabels

SIZES = {100: (1_000_000, 400_000, 40_000), 6522: (40_000, 40_000, 6_000)}  # classes: rows, of our passes, of a peer's
WINDOWS_OF_CLIP = 10
BATCHES = (64, 256, 1024)
MEMCPY_TARGET, LOADER_TARGET, SCAN_TARGET = 0.5, 10.0, 0.9
CALL_BYTES = 2 << 20  # of labels that one Python call of our tf.data pipeline gets, where a batch is smaller
TURN_BYTES = 64 << 20  # that a candidate moves in one turn of the memory table


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A store, its join, and what the peers read.

    order: (rows,) a shuffled order; batch: rows a batch of the loaders; arrow: Hugging Face's memory-mapped dataset of
    the same Parquet files.
    """

    store: Path
    labels: softlabels.JoinedLabels
    order: np.ndarray
    batch: int
    arrow: datasets.Dataset

    @property
    def classes(self) -> int:
        return len(self.labels.classes)

    @property
    def shards(self) -> list[str]:
        return sorted(map(str, (self.store / "shards").glob("*.parquet")))

    def pass_rows(self, name: str) -> np.ndarray:
        """Rows of one timed pass of a loader, in whole batches; slow peers get fewer."""
        rows = SIZES[self.classes][1 if name.startswith("ours") else 2]
        return self.order[: rows // self.batch * self.batch]


def make_case(folder: Path, classes: int, batch: int) -> Case:
    where = folder / f"c{classes}"
    if not (where / "soft_labels" / "_SUCCESS-0001.json").exists():
        write_store(where, clips=SIZES[classes][0] // WINDOWS_OF_CLIP, windows=WINDOWS_OF_CLIP, classes=classes)
    labels = softlabels.open(where / "soft_labels").join(where / "data_manifest.csv", cache_dir=folder / "joins")
    files = sorted(map(str, (where / "soft_labels" / "shards").glob("*.parquet")))
    arrow = datasets.Dataset.from_parquet(files, cache_dir=str(folder / "arrow"), columns=["probabilities"])
    order = np.random.default_rng(0).permutation(len(labels)).astype(np.int32)
    return Case(store=where / "soft_labels", labels=labels, order=order, batch=batch, arrow=arrow)


def best_of(rounds: int, candidates: dict[str, Callable[[], float]]) -> dict[str, float]:
    """The highest figure of each candidate; they take turns, so that a busy machine slows them alike."""
    figures = [{name: measure() for name, measure in candidates.items()} for _ in range(rounds)]
    return {name: max(figure[name] for figure in figures) for name in candidates}


class Turns:
    """Bytes a second of fetching shuffled batches; every turn goes on where the last one stopped, at cold rows."""

    def __init__(self, case: Case, batch: int, source: np.ndarray) -> None:
        self.case, self.batch, self.source = case, batch, source
        self.out = np.empty((batch, 2 * case.classes), np.float32)
        self.half = np.empty((batch, case.classes), np.float32)
        self.position = 0

    def rate(self, fetch: Callable[[np.ndarray, int], None], nbytes: int) -> float:
        """GB/s of calling fetch(rows, first source row) for a turn's worth of batches of nbytes."""
        calls = max(1, TURN_BYTES // self.out.nbytes)
        starts = [self._next() for _ in range(calls)]
        rows = [self.case.order[i : i + self.batch] for i in starts]
        began = time.perf_counter()
        for some, start in zip(rows, starts, strict=True):
            fetch(some, start)
        return calls * nbytes / (time.perf_counter() - began) / 1e9

    def _next(self) -> int:
        self.position = (self.position + 2 * self.batch) % (len(self.source) - 2 * self.batch)
        return self.position

    def y_true(self, rows: np.ndarray, _: int) -> None:
        self.case.labels.y_true(rows, out=self.out)

    def memcpy(self, _: np.ndarray, start: int) -> None:
        np.copyto(self.out.reshape(-1, self.case.classes), self.source[start : start + 2 * self.batch])

    def take(self, rows: np.ndarray, _: int) -> None:
        np.take(self.source, rows, axis=0, out=self.half, mode="clip")


def memory_table(case: Case, rounds: int) -> dict[str, float]:
    """Print GB/s of y_true, memcpy and take; -> ratios to memcpy."""
    source = np.full((len(case.labels), case.classes), 0.5, np.float32)
    for first in range(0, len(case.order), 4096):  # so that every page is mapped before anything is timed
        case.labels.y_true(case.order[first : first + 4096])
    print(f"\nmemory, C = {case.classes:,}, {len(case.labels):,} rows: GB/s, target {MEMCPY_TARGET} x memcpy")
    print(f"  {'batch':>5}  {'y_true':>8}  {'memcpy':>8}  {'ratio':>6}        {'np.take of the soft half':>24}")
    ratios = {}
    for batch in BATCHES:
        turns = Turns(case, batch, source)
        figures = best_of(
            10 * rounds,
            {
                "y_true": partial(turns.rate, turns.y_true, turns.out.nbytes),
                "memcpy": partial(turns.rate, turns.memcpy, turns.out.nbytes),
                "take": partial(turns.rate, turns.take, turns.half.nbytes),
            },
        )
        ratio, take = figures["y_true"] / figures["memcpy"], figures["take"] / figures["memcpy"]
        print(
            f"  {batch:>5}  {figures['y_true']:>8.2f}  {figures['memcpy']:>8.2f}  {ratio:>6.2f} "
            f"{met(ratio, MEMCPY_TARGET)}  {figures['take']:>8.2f}, {take:.2f} x memcpy",
            flush=True,
        )
        ratios[f"C={case.classes} batch={batch} y_true / memcpy"] = ratio
        ratios[f"C={case.classes} batch={batch} take / memcpy"] = take
    return ratios


def met(ratio: float, target: float) -> str:
    return "met   " if ratio >= target else "missed"


def ours_numpy(case: Case) -> Iterator[np.ndarray]:
    rows = case.pass_rows("ours")
    out = np.empty((case.batch, 2 * case.classes), np.float32)
    for first in range(0, len(rows), case.batch):
        yield case.labels.y_true(rows[first : first + case.batch], out=out)


def ours_tf_data(case: Case, together: int = 16) -> Iterable:
    """together: batches whose labels one Python call gets; as many as that are a few megabytes at most."""
    rows = case.pass_rows("ours")
    together = max(1, min(together, CALL_BYTES // (8 * case.classes * case.batch)))
    many = tf.data.Dataset.from_tensor_slices({"row": rows, "x": np.zeros(len(rows), np.float32)})
    many = many.batch(together * case.batch).map(softlabels.attach(case.labels), num_parallel_calls=2)
    return (many.rebatch(case.batch) if together > 1 else many).prefetch(2)


def generator_parquet(case: Case) -> Iterable:
    """As most people begin: row by row out of the Parquet files, through a shuffle buffer."""
    rows = len(case.pass_rows("peers"))
    hard = {tuple(key): row for key, row in zip(_keys(case, rows), case.labels.hard(np.arange(rows)), strict=True)}

    def examples() -> Iterator[np.ndarray]:
        for path in case.shards:
            table = pq.ParquetFile(path).read_row_group(0)
            keys = zip(table["clip_id"].to_pylist(), table["window_index"].to_pylist(), strict=True)
            soft = table["probabilities"].combine_chunks().flatten().to_numpy().reshape(len(table), -1)
            for key, row in zip(keys, soft, strict=True):
                if key not in hard:
                    return
                yield np.concatenate([hard[key], row])

    return _from_generator(case, examples).shuffle(rows // 4).batch(case.batch).prefetch(2)


def _keys(case: Case, rows: int) -> list[list]:
    return case.labels.keys.head(rows)[["clip_id", "window_index"]].to_numpy().tolist()


def generator_memory(case: Case) -> Iterable:
    rows = rows_in_memory(case)
    return _from_generator(case, lambda: iter(rows)).batch(case.batch).prefetch(2)


def _from_generator(case: Case, examples: Callable[[], Iterator[np.ndarray]]) -> tf.data.Dataset:
    return tf.data.Dataset.from_generator(examples, output_signature=tf.TensorSpec((2 * case.classes,), tf.float32))


def rows_in_memory(case: Case) -> np.ndarray:
    """(rows, 2 * classes) float32, in shuffled order already."""
    return case.labels.y_true(case.pass_rows("peers"))


def hugging_face(case: Case) -> Iterable:
    arrow = case.arrow.select(case.pass_rows("peers"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about single columns, in a version to come
        return arrow.to_tf_dataset(columns=["probabilities"], batch_size=case.batch, shuffle=True, prefetch=True)


class ArrowRows:
    """A random-access source of single rows, as grain asks for, over Hugging Face's memory-mapped Arrow."""

    def __init__(self, case: Case) -> None:
        self._rows = case.arrow.with_format("numpy").select(case.pass_rows("peers"))

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, row: int) -> np.ndarray:
        return self._rows[int(row)]["probabilities"]


def grain_over(source: Any, batch: int) -> Iterable:
    """The chain of grain's documentation."""
    return grain.MapDataset.source(source).shuffle(seed=0).batch(batch_size=batch).to_iter_dataset()


LOADERS: dict[str, Callable[[Case], Iterable]] = {
    "ours, numpy": ours_numpy,
    "ours, tf.data": ours_tf_data,
    "ours, tf.data, a batch a call": partial(ours_tf_data, together=1),
    "from_generator, Parquet": generator_parquet,
    "from_generator, rows in memory": generator_memory,
    "datasets.to_tf_dataset": hugging_face,
    "grain, Arrow of the Parquet": lambda case: grain_over(ArrowRows(case), case.batch),
    "grain, rows in memory": lambda case: grain_over(rows_in_memory(case), case.batch),
}


def loader_rate(case: Case, name: str) -> float:
    """Rows a second of one pass of a loader."""
    dataset, expected = LOADERS[name](case), len(case.pass_rows(name)) // case.batch
    began = time.perf_counter()
    batches = sum(1 for _ in dataset)
    took = time.perf_counter() - began
    if batches != expected:
        raise SystemExit(f"{name}: a pass of {expected} batches gave {batches}")
    return batches * case.batch / took


def loader_table(case: Case, rounds: int) -> dict[str, float]:
    """Print rows/s of every loader; -> ratios of ours, of the same kind, to the peers."""
    figures = best_of(rounds, {name: partial(loader_rate, case, name) for name in LOADERS})
    print(f"\nloaders, C = {case.classes:,}, batch {case.batch}: rows/s, target {LOADER_TARGET:.0f} x")
    ratios = {}
    for name, rate in figures.items():
        compared = ""
        if not name.startswith("ours"):
            ours = "ours, numpy" if name.startswith("grain") else "ours, tf.data"
            ratios[f"C={case.classes} {ours} / {name}"] = ratio = figures[ours] / rate
            compared = f"{ratio:>8.1f} x {met(ratio, LOADER_TARGET)} ({ours})"
        print(f"  {name:<32} {rate:>11,.0f} {compared}", flush=True)
    return ratios


def scan_store(case: Case) -> float:
    """Rows a second of reading a whole store, opening it included."""
    began = time.perf_counter()
    rows = sum(len(shard) for shard in softlabels.open(case.store).read())
    return rows / (time.perf_counter() - began)


def scan_files(case: Case, checked: bool) -> float:
    paths = case.shards
    began = time.perf_counter()
    rows = sum(len(pq.ParquetFile(path, page_checksum_verification=checked).read_row_group(0)) for path in paths)
    return rows / (time.perf_counter() - began)


def scan_table(case: Case, rounds: int) -> dict[str, float]:
    """Print rows/s of both ways to read a store; -> ratios."""
    bare = {"read_row_group": False, "read_row_group, page checksums": True}
    figures = best_of(
        rounds,
        {
            "store.read()": partial(scan_store, case),
            **{name: partial(scan_files, case, checked) for name, checked in bare.items()},
        },
    )
    print(f"\nscan, C = {case.classes:,}, {len(case.shards):,} shards: rows/s, target {SCAN_TARGET} x")
    print(f"  {'store.read()':<32} {figures['store.read()']:>11,.0f}")
    ratios = {name: figures["store.read()"] / figures[name] for name in bare}
    for name, ratio in ratios.items():
        print(f"  {name:<32} {figures[name]:>11,.0f} {ratio:>8.2f} x {met(ratio, SCAN_TARGET)}", flush=True)
    return {f"C={case.classes} scan / {name}": ratio for name, ratio in ratios.items()}


TABLES = {"memory": memory_table, "loaders": loader_table, "scan": scan_table}


def run(folder: Path, tables: list[str], batch: int, rounds: int) -> dict[str, float]:
    ratios: dict[str, float] = {}
    for classes in SIZES:
        case = make_case(folder, classes, batch)
        for table in tables:
            ratios |= TABLES[table](case, rounds)
    return {name: round(ratio, 3) for name, ratio in ratios.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--tables", nargs="+", choices=list(TABLES), default=list(TABLES))
    parser.add_argument("--batch", type=int, default=64, help="rows a batch of the loaders")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    print(
        f"{platform.machine()}, {os.cpu_count()} cores; Python {platform.python_version()}; numpy {np.__version__}; "
        f"pyarrow {pa.__version__}; tensorflow {tf.__version__}; datasets {datasets.__version__}; "
        f"grain {importlib.metadata.version('grain')}",
        flush=True,
    )
    datasets.disable_progress_bars()
    with tempfile.TemporaryDirectory() as temporary:
        print(json.dumps(run(arguments.folder or Path(temporary), arguments.tables, arguments.batch, arguments.rounds)))


if __name__ == "__main__":
    main()
