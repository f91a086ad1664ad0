"""Where in a weakly labelled clip are the labelled classes? The teacher's guess, as rows and as weights.

Each labelled class of a clip has one share to give, which it deals out to the clip's rows in proportion to its
probability there: so a loud class does not speak for a quiet one beside it.
"""

from collections.abc import Callable

import numpy as np

from softlabels.evidence.agreement import row_blocks

BLOCK = 65_536  # rows looked at together
Reader = Callable[[np.ndarray], np.ndarray]  # (n,) rows -> (n, 2 * classes) float32 `[hard | soft]`


def best_rows(y_true: Reader, rows: np.ndarray) -> np.ndarray:
    """Rows of one clip, best first; equal ones in order of time."""
    scores, _ = _shares(y_true, rows, np.zeros(len(rows), np.int64))
    if not (scores > 0).any():
        soft = np.split(y_true(rows), 2, axis=1)[1]
        scores = np.nan_to_num(soft).max(axis=1, initial=0.0)
    return rows[np.argsort(-scores, kind="stable")]


def sampling_weights(y_true: Reader, clip_row: np.ndarray) -> np.ndarray:
    """(rows,) float64: each clip's rows sum to 1, in proportion to the labelled classes; evenly where there is none."""
    _, of_clip = np.unique(clip_row, return_inverse=True)
    scores, classes = _shares(y_true, np.arange(len(clip_row)), of_clip)
    return np.where(classes[of_clip] > 0, scores / np.maximum(classes, 1)[of_clip], 1 / np.bincount(of_clip)[of_clip])


def upsampling_weights(y_true: Reader, rows: int, classes: int, ratio: float) -> np.ndarray:
    """(rows,) float64 from 1 up: rows of rare classes, as often as makes each class `ratio` times the most frequent.

    A class counts by its hard labels, and where nobody annotated it by the teacher's probabilities: so many rows are to
    be expected. A row has the largest factor of its classes, of one that it has with probability p the p-th part.
    """
    count = np.zeros(classes)
    for block in row_blocks(rows, 2 * classes):
        count += _presence(y_true(np.arange(rows)[block])).sum(axis=0)
    wanted = ratio * count.max(initial=0.0)
    factor = np.where((count >= 1) & (count < wanted), wanted / np.maximum(count, 1), 1.0)  # below 1: not there at all
    weights = np.ones(rows)
    for block in row_blocks(rows, 2 * classes):
        weights[block] += (_presence(y_true(np.arange(rows)[block])) * (factor - 1)).max(axis=1)
    return weights


def _presence(y_true: np.ndarray) -> np.ndarray:
    """(n, 2 * classes) float32 -> (n, classes) float64: whether a class is there, or how probably."""
    hard, soft = np.split(y_true.astype(np.float64), 2, axis=1)
    return np.where(np.isnan(hard), np.nan_to_num(soft), hard)


def _shares(y_true: Reader, rows: np.ndarray, of_clip: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(n,) what the labelled classes give each row, and (clips,) how many of them gave anything.

    Args:
      of_clip: (n,) int64 the clip of each row, counting from 0.
    """
    place, pair, given = [], [], []
    width = 1
    for first in range(0, len(rows), BLOCK):
        hard, soft = np.split(y_true(rows[first : first + BLOCK]), 2, axis=1)
        width = hard.shape[1]
        row, label = np.nonzero((hard == 1) & (soft > 0))  # False for NaN
        place.append(first + row)
        pair.append(of_clip[first + row] * width + label)  # clip and class as one number
        given.append(soft[row, label].astype(np.float64))
    where, values = np.concatenate([*place, rows[:0]]).astype(np.int64), np.concatenate([*given, np.zeros(0)])
    pairs, which = np.unique(np.concatenate([*pair, rows[:0]]), return_inverse=True)
    shares = values / np.bincount(which, values, len(pairs))[which]
    return np.bincount(where, shares, len(rows)), np.bincount(pairs // width, minlength=of_clip.max(initial=-1) + 1)
