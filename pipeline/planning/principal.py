"""fit_components(): the axes along which a teacher's log-odds vary most, the same on every machine."""

import math

import numpy as np

from softlabels.classes.class_list import ClassList
from softlabels.store.components import BASIS_STEP, ODDS_STEP, Components, grid_log_odds, on_grid

_VECTOR_STEP = 2.0**-16  # fine for axes, and so coarse that the eigenvectors of all machines round to the same
_RANK = 1e-6  # of the first axis' variance: what has less is rounding


def fit_components(probabilities: np.ndarray, classes: ClassList, *, most: int) -> Components | None:
    """The principal components of the log-odds of some windows, (rows, classes) float32 probabilities.

    Args:
      classes: all of the teacher's.
      most: so many components; fewer if the rows vary along fewer axes.
    Returns: None if all rows are the same, or none.
    """
    if not len(probabilities):
        return None
    odds = grid_log_odds(probabilities)
    mean = on_grid(odds.sum(axis=0) / len(odds), ODDS_STEP)
    centred = odds - mean
    variances, vectors = np.linalg.eigh(centred @ centred.T)  # ascending; (rows, rows): there are fewer than classes
    k = min(most, int((variances > variances[-1] * _RANK).sum()), len(odds) - 1)
    if k < 1:
        return None
    vectors = on_grid(vectors[:, ::-1][:, :k], _VECTOR_STEP)  # from here on exact again
    vectors *= np.sign(vectors[np.abs(vectors).argmax(axis=0), np.arange(k)])  # LAPACK's signs are anyone's
    axes = centred.T @ vectors  # (classes, k)
    lengths = np.array([math.sqrt(math.fsum(axis)) for axis in (axes**2).T])
    return Components(classes=classes, mean=mean, basis=on_grid(axes / lengths, BASIS_STEP), asked=most)
