"""The soft half of a join as one array on disk: built once from the shards, then memory-mapped.

Training reads this, never Parquet. The file is named by everything its bytes depend on, so a relabelled manifest
finds the same array again, and a changed store, class list or pooling makes another one.
"""

import hashlib
import os
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal

import numpy as np

from softlabels.ahead import in_threads
from softlabels.class_mapping import ClassMatch
from softlabels.errors import JoinError, StoreError
from softlabels.joined_rows import JoinedRows
from softlabels.kept import open_array, open_or_build
from softlabels.spec import canonical_json

if TYPE_CHECKING:
    from softlabels.store import SoftLabelStore

Pooling = Literal["each", "max", "mean"]
ARRAY_VERSION = 3
DIGEST_BYTES, DIGEST_BLOCK = 32, 16 << 20


def soft_array(
    store: "SoftLabelStore", rows: JoinedRows, match: ClassMatch, pooling: Pooling, folder: Path
) -> tuple[Path, np.ndarray]:
    """The soft labels of a join, memory-mapped and read-only.

    Args:
      match: the student's classes in the store's list.
      pooling: how the windows that belong to one row become its label.
      folder: where the array is kept.
    Returns: its path, and (rows, student classes) float32; NaN where the teacher said nothing.
    Raises: StoreError: a damaged shard, or values that are no probabilities.
    """
    path = folder / f"soft-{_fingerprint(store, rows, match, pooling)}.npy"
    shape = (len(rows), len(match.offsets) - 1)
    build = partial(_build, store=store, rows=rows, match=match, pooling=pooling)
    return path, open_or_build(path, lambda: open_soft(path, shape), build)


def open_soft(path: Path, shape: tuple[int, int], *, verify: bool = False) -> np.ndarray:
    """A soft array, memory-mapped and read-only; behind the .npy stands its digest.

    Args:
      verify: hold the bytes against it.
    Raises: JoinError: missing, or of another size or digest.
    """
    array = open_array(path)
    length = path.stat().st_size - DIGEST_BYTES
    with path.open("rb") as file:
        header = np.lib.format.read_magic(file) and np.lib.format.read_array_header_1_0(file)
        whole = array.shape == shape and length == file.tell() + array.nbytes and header
        if whole and verify:
            whole = _digest_of(file, length) == os.pread(file.fileno(), DIGEST_BYTES, length)
    if not whole:
        raise JoinError(
            f"'{path}' is damaged: expected the soft labels of {shape[0]} rows and {shape[1]} classes, whole"
        )
    return array


def _digest_of(file: BinaryIO, length: int) -> bytes:
    """sha256 over the sha256 of each block of the first bytes of a file: blocks are read and hashed side by side."""

    def digest(offset: int) -> bytes:
        return hashlib.sha256(os.pread(file.fileno(), min(DIGEST_BLOCK, length - offset), offset)).digest()

    blocks = in_threads(digest, ((offset,) for offset in range(0, length, DIGEST_BLOCK)))
    return hashlib.sha256(b"".join(blocks)).digest()


def _fingerprint(store: "SoftLabelStore", rows: JoinedRows, match: ClassMatch, pooling: Pooling) -> str:
    """sha256 of what the array's bytes depend on: the shards by content, and which row goes where."""
    shards = {str(shard): store.receipts[int(shard)].digest for shard in np.unique(rows.shard)}
    total = hashlib.sha256(canonical_json([ARRAY_VERSION, store.spec.fingerprint(), pooling, len(rows), shards]))
    for array in (rows.target.astype(np.int64), rows.shard, rows.row, match.teacher_classes, match.offsets):
        total.update(np.ascontiguousarray(array))
    return total.hexdigest()


def _build(path: Path, store: "SoftLabelStore", rows: JoinedRows, match: ClassMatch, pooling: Pooling) -> None:
    array = np.lib.format.open_memmap(path, "w+", np.float32, shape=(len(rows), len(match.offsets) - 1))
    with path.open("r+b") as file:
        if pooling == "each":
            _write_each(file.fileno(), array, store, rows, match)
        else:
            os.posix_fallocate(file.fileno(), 0, array.offset + array.nbytes)  # a full disk is an error, no SIGBUS
            _pool(array, store, rows, match, pooling)
            array.flush()
        _seal(file, array.offset + array.nbytes)


def write_soft(path: Path, shape: tuple[int, int], blocks: Iterable[np.ndarray]) -> None:
    """Write a soft array from blocks of its rows, in their order; (n, classes) float32 each."""
    array = np.lib.format.open_memmap(path, "w+", np.float32, shape=shape)
    offset = array.offset
    with path.open("r+b") as file:
        for values in blocks:
            _write(file.fileno(), np.ascontiguousarray(values, np.float32), offset)
            offset += values.nbytes
        _seal(file, array.offset + array.nbytes)


def _seal(file: BinaryIO, end: int) -> None:
    """Put the digest of what was written behind it, and all of it on the disk."""
    file.seek(0, os.SEEK_END)
    if file.tell() < end:  # nothing was written at the end: no rows
        file.truncate(end)
    digest = _digest_of(file, end)
    file.seek(end)
    file.write(digest)
    file.flush()
    os.fsync(file.fileno())


def _write_each(
    descriptor: int, array: np.memmap, store: "SoftLabelStore", rows: JoinedRows, match: ClassMatch
) -> None:
    """Every window is a row. Written, not mapped: that takes a quarter of the time, and a full disk is an error."""

    def put(target: np.ndarray, values: np.ndarray) -> None:
        starts = np.concatenate([[0], np.flatnonzero(np.diff(target) != 1) + 1, [len(target)]])
        for first, behind in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True):
            if first < behind:  # rows that follow each other
                _write(descriptor, values[first:behind], array.offset + int(target[first]) * array.strides[0])

    def copy(shard: int, here: np.ndarray) -> None:
        put(rows.target[here], np.ascontiguousarray(_mapped_shard(store, shard, rows.row[here], match)))

    for silent in np.array_split(np.flatnonzero(~rows.has_soft), 1 + len(rows) // 4096):
        put(silent, np.full((len(silent), array.shape[1]), np.nan, np.float32))
    for _ in in_threads(copy, _rows_by_shard(rows)):  # no two shards have a row in common
        pass


def _write(descriptor: int, values: np.ndarray, offset: int) -> None:
    """os.pwrite, which may write less than it is given."""
    data = memoryview(values).cast("B")
    while data:
        written = os.pwrite(descriptor, data, offset)
        data, offset = data[written:], offset + written


def _pool(array: np.memmap, store: "SoftLabelStore", rows: JoinedRows, match: ClassMatch, pooling: Pooling) -> None:
    """Every clip is a row: the maximum or the mean of its windows."""
    array[np.flatnonzero(~rows.has_soft)] = np.nan
    windows = np.bincount(rows.target, minlength=len(rows)).astype(np.float64)

    def read(shard: int, here: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return rows.target[here], _mapped_shard(store, shard, rows.row[here], match)

    for target, values in in_threads(read, _rows_by_shard(rows)):
        if pooling == "max":
            np.maximum.at(array, target, values)  # probabilities are at least 0, where the array starts
        else:
            np.add.at(array, target, (values / windows[target, None]).astype(np.float32))


def _rows_by_shard(rows: JoinedRows) -> Iterator[tuple[int, np.ndarray]]:
    """Each shard with the labelled windows (positions in `rows.shard`) that lie in it."""
    order = np.argsort(rows.shard, kind="stable")
    shards, first = np.unique(rows.shard[order], return_index=True)
    yield from zip(shards.tolist(), np.split(order, first[1:]) if len(first) else [], strict=True)


def _mapped_shard(store: "SoftLabelStore", shard: int, row: np.ndarray, match: ClassMatch) -> np.ndarray:
    """(n, student classes): what the teacher said at some rows of a shard. Raises: StoreError."""
    values = match.pool(_taken(store.read_shard(shard).probabilities, row), store.activation)
    said = values[:, np.diff(match.offsets) > 0] if match.unmatched else values
    if said.size and not (said.min() >= 0 and said.max() <= 1):  # False for NaN too
        raise StoreError(
            f"shard {shard} of '{store.storage}': expected probabilities from 0 to 1, got {said.min()} to "
            f"{said.max()}; the teacher's outputs and activation do not fit; label again with the right ones"
        )
    return values


def _taken(probabilities: np.ndarray, row: np.ndarray) -> np.ndarray:
    """probabilities[row], without a copy where that is all of them."""
    everything = len(row) == len(probabilities) and np.array_equal(row, np.arange(len(row)))
    return probabilities if everything else probabilities[row]
