"""The soft half of a join as one array on disk: built once from the shards, then memory-mapped.

Training reads this, never Parquet. The file is named by everything its bytes depend on, so a relabelled manifest
finds the same array again, and a changed store, class list or pooling makes another one.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from softlabels.ahead import in_threads
from softlabels.class_mapping import ClassMatch
from softlabels.errors import StoreError
from softlabels.joined_rows import JoinedRows
from softlabels.saved_join import build_once, open_array
from softlabels.spec import canonical_json

if TYPE_CHECKING:
    from softlabels.store import SoftLabelStore

Pooling = Literal["each", "max", "mean"]
ARRAY_VERSION = 2


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
    build_once(path, lambda temporary: _build(temporary, store, rows, match, pooling))
    return path, open_array(path)


def _fingerprint(store: "SoftLabelStore", rows: JoinedRows, match: ClassMatch, pooling: Pooling) -> str:
    """sha256 of what the array's bytes depend on: the shards by content, and which row goes where."""
    shards = {str(shard): store.receipts[int(shard)].digest for shard in np.unique(rows.shard)}
    total = hashlib.sha256(canonical_json([ARRAY_VERSION, store.spec.fingerprint(), pooling, len(rows), shards]))
    for array in (rows.target.astype(np.int64), rows.shard, rows.row, match.teacher_classes, match.offsets):
        total.update(np.ascontiguousarray(array))
    return total.hexdigest()


def _build(path: Path, store: "SoftLabelStore", rows: JoinedRows, match: ClassMatch, pooling: Pooling) -> None:
    classes = len(match.offsets) - 1
    if not len(rows):
        np.save(path, np.zeros((0, classes), np.float32))
        return
    array = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(len(rows), classes))
    array[~rows.has_soft] = np.nan
    windows = np.bincount(rows.target, minlength=len(rows)).astype(np.float64) if pooling == "mean" else None
    for target, values in _mapped_shards(store, rows, match):
        if pooling == "each":
            array[target] = values
        elif pooling == "max":
            np.maximum.at(array, target, values)  # probabilities are at least 0, where the array starts
        else:
            np.add.at(array, target, (values / windows[target, None]).astype(np.float32))
    array.flush()


def _mapped_shards(
    store: "SoftLabelStore", rows: JoinedRows, match: ClassMatch
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Shard by shard: the joined rows (n,) and their probabilities (n, student classes)."""
    order = np.argsort(rows.shard, kind="stable")
    shards, first = np.unique(rows.shard[order], return_index=True)

    def read(shard: int, here: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        probabilities = store.read_shard(shard).probabilities
        if len(here) != len(probabilities) or not np.array_equal(rows.row[here], np.arange(len(probabilities))):
            probabilities = probabilities[rows.row[here]]
        values = match.pool(probabilities, store.activation)
        _check(shard, values[:, np.diff(match.offsets) > 0], store)
        return rows.target[here], values

    parts = zip(shards.tolist(), np.split(order, first[1:]) if len(first) else [], strict=True)
    yield from in_threads(read, parts)


def _check(shard: int, said: np.ndarray, store: "SoftLabelStore") -> None:
    """Raises: StoreError: what the teacher said, (n, covered classes), are no probabilities."""
    if said.size and not (said.min() >= 0 and said.max() <= 1):  # False for NaN too
        raise StoreError(
            f"shard {shard} of '{store.storage}': expected probabilities from 0 to 1, got {said.min()} to "
            f"{said.max()}; the teacher's outputs and activation do not fit; label again with the right ones"
        )
