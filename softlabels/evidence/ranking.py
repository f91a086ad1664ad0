"""How well probabilities rank annotations: average precision, and the threshold at which precision equals recall."""

import numpy as np


def average_precision(present: np.ndarray, probabilities: np.ndarray) -> float:
    """Mean precision at the rank of each positive; equal probabilities share a rank, so their order does not matter.

    Args:
      present: (n,) bool, at least one True; probabilities: (n,).
    """
    order = np.argsort(-probabilities, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(probabilities[order])), len(order) - 1)  # the last of each rank
    hits = np.cumsum(present[order])[ends]
    return float(np.sum(np.diff(hits, prepend=0) * hits / (ends + 1)) / hits[-1])


def operating_point(present: np.ndarray, probabilities: np.ndarray) -> tuple[float, float]:
    """The threshold above which there are as many clips as there are positives, so that precision equals recall.

    Args:
      present: (n,) bool, at least one True and one False; probabilities: (n,).
    Returns: the threshold, half-way to the next lower probability, and the precision (and recall) there. Where equal
      probabilities straddle it, as many of them as are needed count, at their share of positives.
    """
    count = int(present.sum())
    order = np.argsort(-probabilities, kind="stable")
    above, below = float(probabilities[order[count - 1]]), float(probabilities[order[count]])
    surely, tied = probabilities > above, probabilities == above
    hits = present[surely].sum() + (count - surely.sum()) * present[tied].mean()
    return (above + below) / 2, float(hits / count)
