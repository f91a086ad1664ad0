"""Ragged arrays: rows of different lengths, laid end to end in one flat array, with offsets that say where each begins.

counts   2  3  0  1           how long each row is
offsets  0  2  5  5  6        row i is flat[offsets[i] : offsets[i + 1]]
"""

import numpy as np


def offsets_of(counts: np.ndarray) -> np.ndarray:
    """(rows,) lengths -> (rows + 1,) int64: where each row begins, and where the last one ends."""
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)


def owners(counts: np.ndarray) -> np.ndarray:
    """(rows,) lengths -> (entries,) int64: which row each entry is of."""
    return np.repeat(np.arange(len(counts)), counts)


def ranges(first: np.ndarray, counts: np.ndarray, dtype: type = np.int64) -> np.ndarray:
    """(rows,) starts and lengths -> (entries,): start, start + 1, ... of each row, one row after the other."""
    before = np.cumsum(counts) - counts  # entries of the rows before
    return np.arange(counts.sum(), dtype=dtype) + np.repeat((first - before).astype(dtype), counts)


def places_by_value(values: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
    """The different values, ascending, and for each the places in `values`, ascending, where it stands."""
    order = np.argsort(values, kind="stable")
    distinct, first = np.unique(values[order], return_index=True)
    return distinct, np.split(order, first[1:]) if len(first) else []
