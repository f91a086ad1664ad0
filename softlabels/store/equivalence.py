"""Whether two labellings of the same windows are identical, equivalent (level D0), or different."""

from typing import Literal

import numpy as np

from softlabels.records.shard import ShardRows

Likeness = Literal["identical", "equivalent", "different"]
ROUNDING_STEP = 2.0**-8  # of values with 8 stored significand bits, relative
LOGIT_STEP = 1e-3  # above 0.5, where values are kept exact
COMPONENT_STEP = 2.0**-4  # a sum of thousands of log-odds, each within a step; BirdNET portable or not: 0.02
EMBEDDING_STEP = 2.0**-12  # of the largest number of its row; BirdNET portable or not: 2^-17
_NEAR_ZERO = {"dropped_sum": 1e-8, "components": COMPONENT_STEP}  # columns that may differ, and by how much at least


def compare_rows(stored: ShardRows, again: ShardRows) -> Likeness:
    """Compare two labellings row by row.

    Returns: "identical": every key and value is the same. "equivalent": the same keys, and each value at most one
      rounding step away, or above 0.5 at most 1e-3 in logits: what another CPU class or runtime may do; a component
      near 0 by at most 2^-4, a number of an embedding by 2^-12 of the largest of its row. "different": anything else.
    """
    if stored.columns().keys() != again.columns().keys():
        return "different"
    likeness = compare_probabilities(stored.probabilities, again.probabilities)
    for name, values in stored.columns().items():
        other = again.columns()[name]
        if name == "probabilities" or np.array_equal(values, other, equal_nan=name == "embedding"):
            continue
        near_zero = _near_zero(name, values)
        if near_zero is None or not np.allclose(values, other, rtol=ROUNDING_STEP, atol=near_zero, equal_nan=True):
            return "different"
        likeness = "equivalent" if likeness == "identical" else likeness
    return likeness


def _near_zero(name: str, values: np.ndarray) -> float | np.ndarray | None:
    """By how much the values of a column may differ at least; None where they may not differ at all."""
    if name == "embedding":
        return EMBEDDING_STEP * np.abs(np.nan_to_num(values)).max(axis=1, keepdims=True)  # (rows, 1)
    return _NEAR_ZERO.get(name)


def compare_probabilities(stored: np.ndarray, again: np.ndarray) -> Likeness:
    """The same for (rows, classes) float32 probabilities of the same windows."""
    if stored.shape != again.shape:
        return "different"
    if np.array_equal(stored, again):
        return "identical"
    p, q = stored.astype(np.float64), again.astype(np.float64)
    one_step = np.abs(p - q) <= ROUNDING_STEP * np.maximum(p, q)
    return "equivalent" if np.where(np.maximum(p, q) > 0.5, _close_logits(p, q), one_step).all() else "different"


def _close_logits(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """|logit p - logit q| <= LOGIT_STEP, where two ones are close and a one and a zero are not."""
    with np.errstate(divide="ignore", invalid="ignore"):
        away = np.abs((np.log(p) - np.log1p(-p)) - (np.log(q) - np.log1p(-q)))
    return (p == q) | (away <= LOGIT_STEP)
