"""Taking rows out of a join: which row numbers are right, and the one copy that a batch costs."""

from typing import Any

import numpy as np

from softlabels.saved_join import JoinArrays


def checked_rows(rows: Any, count: int) -> np.ndarray:
    """(n,) row numbers of a join of `count` rows; None is all. Raises: ValueError: others than 0 to count - 1."""
    if rows is None:
        return np.arange(count)
    rows = np.asarray(rows) if len(rows) else np.zeros(0, np.int64)
    whole = rows.dtype.kind in "iu" and rows.ndim == 1
    # As unsigned numbers negative ones are huge: one pass over the rows checks both ends.
    if not whole or (len(rows) and rows.astype(np.int64, copy=False).view(np.uint64).max() >= count):
        raise ValueError(f"rows: expected row numbers from 0 to {count - 1}, got {rows!r}")
    return rows


def fill(arrays: JoinArrays, table: np.ndarray | None, rows: np.ndarray, hard: np.ndarray, soft: np.ndarray) -> None:
    """Write both halves of some rows, each (n, classes) and perhaps strided.

    Args:
      table: the hard label of every group, where that is small; else None.
      rows: (n,) checked row numbers.
    """
    groups = arrays.hard_group.take(rows)
    if table is None:
        arrays.hard.rows(groups, hard.shape[1], out=hard)
    else:
        _gather(table, groups, hard)
    _gather(arrays.soft, rows, soft)


def _gather(source: np.ndarray, rows: np.ndarray, out: np.ndarray) -> None:
    """out[...] = source[rows]; `out` may be strided.

    Long rows are copied one by one, straight to where they belong; short ones through a block that stays in cache.
    Row numbers are checked before, so "clip" never clips: it only spares NumPy a second buffer.
    """
    if source.shape[1] >= 2048:
        for i, row in enumerate(rows.tolist()):
            out[i] = source[row]
    else:
        out[...] = source.take(rows, axis=0, mode="clip")
