"""Where in a weakly labelled clip is the labelled class? The teacher's guess, as rows, weights and labels."""

from typing import TYPE_CHECKING

import numpy as np

from softlabels.hard_labels import HardLabels

if TYPE_CHECKING:
    from softlabels.joined import JoinedLabels

HEARD = 0.5  # of the clip's highest probability: a window that has as much is taken for one with the class in it
BLOCK = 65_536  # rows looked at together


def best_rows(labels: "JoinedLabels", rows: np.ndarray) -> np.ndarray:
    """Rows of one clip, best first; equal ones in order of time."""
    scores = _scores(labels, rows)
    if not (scores > 0).any():
        scores = np.nan_to_num(labels.soft(rows)).max(axis=1, initial=0.0)
    return rows[np.argsort(-scores, kind="stable")]


def sampling_weights(labels: "JoinedLabels", clip: np.ndarray) -> np.ndarray:
    """(rows,) float64: each clip's rows sum to 1, in proportion to the labelled class; evenly where there is none."""
    scores = np.empty(len(labels))
    for first in range(0, len(labels), BLOCK):
        rows = np.arange(first, min(first + BLOCK, len(labels)))
        scores[rows] = _scores(labels, rows)
    _, of_clip = np.unique(clip, return_inverse=True)
    sums, counts = np.bincount(of_clip, scores), np.bincount(of_clip)
    return np.where(sums[of_clip] > 0, scores / np.where(sums > 0, sums, 1)[of_clip], 1 / counts[of_clip])


def _scores(labels: "JoinedLabels", rows: np.ndarray) -> np.ndarray:
    """(n,): the highest probability of a labelled class in each row; 0 where none is labelled or known."""
    y_true = labels.y_true(rows)
    hard, soft = np.split(y_true, 2, axis=1)
    return np.where(hard == 1, np.nan_to_num(soft), 0).max(axis=1, initial=0.0).astype(np.float64)


def best_window_labels(clip: np.ndarray, spread: HardLabels, soft: np.ndarray, alone: np.ndarray) -> HardLabels:
    """Clip labels laid on the windows where the teacher hears the class; NaN for that class elsewhere.

    A window hears a class at half the clip's highest probability of it or more. A clip of one window keeps its label;
    of several, a class that the teacher lacks, or never gives anything, is unknown in all of them.

    Args:
      clip: (rows,) int32 ascending, the group of `spread` that each row has.
      soft: (rows, classes) teacher probabilities.
      alone: (clips,) bool, clips of one window.
    Returns: one group a row.
    """
    counts = np.diff(spread.offsets)[clip]  # entries of each row
    row = np.repeat(np.arange(len(clip)), counts)
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    entry = np.arange(len(row)) - np.repeat(offsets[:-1] - spread.offsets[clip], counts)
    index, value = spread.index[entry], spread.value[entry].copy()
    heard = np.nan_to_num(soft[row, index])  # (entries,)
    highest = np.zeros(len(spread.index), np.float32)
    np.maximum.at(highest, entry, heard)
    there = alone[clip[row]] | ((heard > 0) & (heard >= HEARD * highest[entry]))
    value[~there] = np.nan
    return HardLabels(base=spread.base[clip], offsets=offsets, index=index, value=value)
