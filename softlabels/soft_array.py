"""The soft half of a join as one array on disk: built once from the shards, then memory-mapped.

Training reads this, never Parquet. The file is named by everything its bytes depend on, so a changed store,
manifest, class list or pooling makes another file, and the same join starts at once the second time.
"""

import hashlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from softlabels.errors import StoreError
from softlabels.joined_rows import JoinedRows
from softlabels.spec import canonical_json
from softlabels.storage import TEMPORARY

if TYPE_CHECKING:
    from softlabels.store import SoftLabelStore

Pooling = Literal["each", "max", "mean"]
ARRAY_VERSION = 1


def soft_array(
    store: "SoftLabelStore",
    rows: JoinedRows,
    columns: np.ndarray,
    pooling: Pooling,
    cache_dir: str | Path | None,
) -> np.ndarray:
    """The soft labels of a join, memory-mapped and read-only.

    Args:
      columns: (student classes,) positions in the store's class list, -1 where the teacher lacks the class.
      pooling: how the windows that belong to one row become its label.
    Returns: (rows, student classes) float32; NaN where the teacher said nothing.
    Raises: StoreError: a damaged shard, or values that are no probabilities.
    """
    folder = _folder(store, cache_dir)
    path = folder / f"{_fingerprint(store, rows, columns, pooling)}.npy"
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        temporary = folder / f"{TEMPORARY}{secrets.token_hex(8)}.npy"
        try:
            _build(temporary, store, rows, columns, pooling)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    return np.load(path, mmap_mode="r")


def _folder(store: "SoftLabelStore", cache_dir: str | Path | None) -> Path:
    if cache_dir is not None:
        return Path(cache_dir)
    if os.access(store.storage.root, os.W_OK):
        return store.storage.path("joins")
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "softlabels" / "joins"


def _fingerprint(store: "SoftLabelStore", rows: JoinedRows, columns: np.ndarray, pooling: Pooling) -> str:
    """sha256 of what the array's bytes depend on: the shards by content, and which row goes where."""
    shards = {str(shard): store.receipts[int(shard)].digest for shard in np.unique(rows.shard)}
    total = hashlib.sha256(canonical_json([ARRAY_VERSION, store.spec.fingerprint(), pooling, len(rows), shards]))
    for array in (rows.target.astype(np.int64), rows.shard, rows.row, columns):
        total.update(np.ascontiguousarray(array))
    return total.hexdigest()


def _build(path: Path, store: "SoftLabelStore", rows: JoinedRows, columns: np.ndarray, pooling: Pooling) -> None:
    if not len(rows):
        np.save(path, np.zeros((0, len(columns)), np.float32))
        return
    array = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(len(rows), len(columns)))
    array[~rows.has_soft] = np.nan
    windows = np.bincount(rows.target, minlength=len(rows)).astype(np.float64)
    for target, values in _mapped_shards(store, rows, columns):
        if pooling == "each":
            array[target] = values
        elif pooling == "max":
            np.maximum.at(array, target, values)  # probabilities are at least 0, where the array starts
        else:
            np.add.at(array, target, (values / windows[target, None]).astype(np.float32))
    array.flush()


def _mapped_shards(
    store: "SoftLabelStore", rows: JoinedRows, columns: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Shard by shard: the joined rows (n,) and their probabilities (n, student classes)."""
    order = np.argsort(rows.shard, kind="stable")
    shards, first = np.unique(rows.shard[order], return_index=True)
    covered = columns >= 0
    for shard, here in zip(shards.tolist(), np.split(order, first)[1:], strict=True):
        probabilities = store.read_shard(shard).probabilities
        values = np.full((len(here), len(columns)), np.nan, np.float32)
        values[:, covered] = probabilities[np.ix_(rows.row[here], columns[covered])]
        said = values[:, covered]
        if not ((said >= 0) & (said <= 1)).all():
            raise StoreError(
                f"shard {shard} of '{store.storage}': expected probabilities from 0 to 1, got {said.min()} to "
                f"{said.max()}; "
                "the teacher's outputs and activation do not fit; label again with the right ones"
            )
        yield rows.target[here], values
