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


def upsampled(weights: np.ndarray, y_true: Reader, classes: int, ratio: float) -> np.ndarray:
    """How often to draw each row, so that rare classes come at least `ratio` times as often as the most frequent one.

    A class is there where people say so, and where nobody annotated it if the teacher gives it 0.5 or more. Each row
    comes as often as the rarest of its classes has to; one without any class as often as before.

    Args:
      weights: (rows,) float64 how often each would be drawn without.
      ratio: above 0, up to 1, which makes all classes alike.
    Returns: (rows,) float64.
    """
    blocks = list(row_blocks(len(weights), 2 * classes))

    def present(block: slice) -> np.ndarray:
        hard, soft = np.split(y_true(np.arange(len(weights))[block]), 2, axis=1)
        return np.where(np.isnan(hard), soft, hard) >= 0.5  # (n, classes); False for NaN

    drawn = np.zeros(classes)
    for block in blocks:
        drawn += np.where(present(block), weights[block, None], 0).sum(axis=0)
    factor = np.maximum(ratio * drawn.max(initial=0) / np.where(drawn > 0, drawn, np.inf), 1)  # (classes,)
    raised = [weights[block] * np.where(present(block), factor, 1).max(axis=1, initial=1) for block in blocks]
    return np.concatenate(raised)


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
