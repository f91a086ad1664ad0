"""Where in a weakly labelled clip is the labelled class? The teacher's guess, as rows and as weights."""

from collections.abc import Callable

import numpy as np

from softlabels.calibration.agreement import row_blocks

BLOCK = 65_536  # rows looked at together
Reader = Callable[[np.ndarray], np.ndarray]  # (n,) rows -> (n, 2 * classes) float32 `[hard | soft]`


def best_rows(y_true: Reader, rows: np.ndarray) -> np.ndarray:
    """Rows of one clip, best first; equal ones in order of time."""
    scores = _scores(y_true, rows)
    if not (scores > 0).any():
        soft = np.split(y_true(rows), 2, axis=1)[1]
        scores = np.nan_to_num(soft).max(axis=1, initial=0.0)
    return rows[np.argsort(-scores, kind="stable")]


def sampling_weights(y_true: Reader, clip_row: np.ndarray) -> np.ndarray:
    """(rows,) float64: each clip's rows sum to 1, in proportion to the labelled class; evenly where there is none."""
    scores = np.empty(len(clip_row))
    for block in row_blocks(len(scores), 1, BLOCK):
        scores[block] = _scores(y_true, np.arange(len(scores))[block])
    _, of_clip = np.unique(clip_row, return_inverse=True)
    sums, counts = np.bincount(of_clip, scores), np.bincount(of_clip)
    return np.where(sums[of_clip] > 0, scores / np.where(sums > 0, sums, 1)[of_clip], 1 / counts[of_clip])


def _scores(y_true: Reader, rows: np.ndarray) -> np.ndarray:
    """(n,): the highest probability of a labelled class in each row; 0 where none is labelled or known."""
    hard, soft = np.split(y_true(rows), 2, axis=1)
    return np.where(hard == 1, np.nan_to_num(soft), 0).max(axis=1, initial=0.0).astype(np.float64)
