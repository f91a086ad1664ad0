"""The soft half of a join as one array on disk: built once from the shards, then memory-mapped.

Training reads this, never Parquet. The file is named by everything its bytes depend on, so a relabelled manifest
finds the same array again, and a changed store, class list or pooling makes another one.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from softlabels.batches.rows import Pooling
from softlabels.classes.matching import ClassMatch
from softlabels.digests import canonical_json
from softlabels.joins.rows import JoinedRows
from softlabels.kept.built_once import open_or_build
from softlabels.kept.soft_file import CheckedRows, made_soft_file, open_soft
from softlabels.ragged import places_by_value
from softlabels.store.reader import StoreReader
from softlabels.threads import in_threads

ARRAY_VERSION = 4  # its pages have checksums


def soft_array(
    store: StoreReader, rows: JoinedRows, match: ClassMatch, pooling: Pooling, folder: Path
) -> tuple[Path, CheckedRows]:
    """The soft labels of a join, kept in `folder`, memory-mapped and read-only.

    Returns: their path, and (rows, student classes) float32; NaN where the teacher has no answer.
    Raises: StoreError: a damaged shard, or values that are no probabilities.
    """
    shards = {str(shard): store.receipts[int(shard)].digest for shard in np.unique(rows.shard)}
    parts = [ARRAY_VERSION, store.spec.fingerprint(), pooling, len(rows), shards]
    total = hashlib.sha256(canonical_json(parts))  # what the bytes depend on: shards by content, which row goes where
    for array in (rows.target.astype(np.int64), rows.shard, rows.shard_row, match.teacher_classes, match.offsets):
        total.update(np.ascontiguousarray(array).data)
    source = _Source(store=store, rows=rows, match=match, pooling=pooling)
    path, shape = folder / f"soft-{total.hexdigest()}.npy", (len(rows), len(match))
    return path, open_or_build(path, lambda: open_soft(path, shape), lambda temporary: source.write(temporary, shape))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Source:
    store: StoreReader
    rows: JoinedRows
    match: ClassMatch
    pooling: Pooling

    def write(self, path: Path, shape: tuple[int, int]) -> None:
        """Make the file."""
        shards, places = places_by_value(self.rows.shard)  # (labelled windows) that lie in each
        by_shard = zip(shards.tolist(), places, strict=True)
        silent = np.flatnonzero(~self.rows.has_soft)
        with made_soft_file(path, shape) as made:
            if self.pooling != "each":
                with made.mapped() as array:
                    self._pool(array, silent, by_shard)
                return
            for some in np.array_split(silent, 1 + len(silent) // 4096):
                made.write_rows(some, np.full((len(some), shape[1]), np.nan, np.float32))
            # No two shards have a row in common, so they are written side by side.
            for _ in in_threads(lambda *shard: made.write_rows(*self._read(*shard)), by_shard):
                continue

    def _pool(self, array: np.memmap, silent: np.ndarray, by_shard: Iterable[tuple[int, np.ndarray]]) -> None:
        """Every clip is a row: the maximum or the mean of its windows."""
        array[silent] = np.nan
        windows = np.bincount(self.rows.target, minlength=len(self.rows)).astype(np.float64)
        for target, values in in_threads(self._read, by_shard):
            if self.pooling == "max":
                np.maximum.at(array, target, values)  # probabilities are at least 0, where the array starts
            else:
                np.add.at(array, target, (values / windows[target, None]).astype(np.float32))

    def _read(self, shard: int, here: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Joined rows, and (n, student classes) what the teacher gave each. Raises: StoreError."""
        taken, row = self.store.read_shard(shard).probabilities, self.rows.shard_row[here]
        if not np.array_equal(row, np.arange(len(taken))):  # all of them are not copied
            taken = taken[row]
        return self.rows.target[here], self.match.pool(taken, self.store.activation)
