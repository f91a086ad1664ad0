"""How probabilities are mapped: a few monotone maps, linear in their parameters, applied when rows are read.

activation  method       the mapped log-odds (sigmoid) or logits (softmax)        parameters, with their identity
sigmoid     platt        slope * logit(p) + shift                                 slope 1, shift 0
sigmoid     temperature  slope * logit(p)                                         slope 1
sigmoid     beta         on * log(p) - off * log(1 - p) + shift                   on 1, off 1, shift 0
softmax     platt        slope * log(p) + shift ("vector scaling")                slope 1, shift 0
softmax     temperature  slope * log(p), one slope for all classes                slope 1

Sources: Platt 1999; Guo et al. 2017, arXiv:1706.04599; Kull et al. 2017, "Beta calibration". Fitting is in fit.py.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from softlabels.classes.class_list import Activation, ClassList
from softlabels.evidence.agreement import row_blocks
from softlabels.odds import EDGE

Method = Literal["platt", "temperature", "beta", "none"]
LOW = 2.0**-40  # softmax: of 6,522 classes with 0, all together stay below 1e-8
_PARAMETERS = {"platt": ("slope", "shift"), "temperature": ("slope",), "beta": ("on", "off", "shift")}
_BLOCK = 1 << 15  # values mapped at once: they stay in cache


def parameter_names(method: Method, activation: Activation) -> tuple[str, ...]:
    """The parameters of a map; all but "shift" are slopes, which are never negative, so that maps are monotone.

    Raises: ValueError: an unknown method, or "beta" for classes that exclude each other.
    """
    if method not in _PARAMETERS:
        raise ValueError(f"method: expected 'platt', 'temperature', 'beta' or 'none', got {method!r}")
    if method == "beta" and activation == "softmax":
        raise ValueError(
            "method: 'beta' is a map of one probability and its complement; these labels are distributions (activation "
            "'softmax'): use 'platt' or 'temperature', or calibrate before exclusive()"
        )
    return _PARAMETERS[method]


def terms(p: np.ndarray, method: Method, activation: Activation) -> list[np.ndarray]:
    """What each slope multiplies: (n, classes) arrays of the type of `p`; NaN where p is.

    p = 0 and p = 1 count as EDGE and 1 - EDGE (softmax: 0 as LOW), so every value is finite; what lies beyond
    is merged with them, which keeps the order.
    """
    if activation == "softmax":
        return [np.log(np.maximum(p, LOW))]
    p = np.clip(p, EDGE, 1 - EDGE)
    if method == "beta":
        return [np.log(p), -np.log(1 - p)]
    return [np.log(p / (1 - p))]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Calibrated:
    """The read step that maps the soft half; see `JoinedLabels.calibrate`.

    parameters: (classes, k) float64, or (1, k) where all classes share them. prior: (classes,) float64 added to the
    mapped log-odds, for classes that are not as frequent as among the annotated clips; None is nothing.
    weak: whether windows of clips that were not annotated in time are mapped too.
    """

    method: Method
    activation: Activation
    parameters: np.ndarray
    prior: np.ndarray | None = None
    weak: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "parameters", np.asarray(self.parameters, np.float64))  # lists come from JSON
        if self.prior is not None:
            object.__setattr__(self, "prior", np.asarray(self.prior, np.float64))

    def settings(self) -> dict[str, Any]:
        return {
            "step": "calibrated",
            "method": self.method,
            "activation": self.activation,
            "parameters": self.parameters.tolist(),
            "prior": None if self.prior is None else self.prior.tolist(),
            "weak": self.weak,
        }

    def classes(self, classes: ClassList) -> ClassList:
        return classes

    def trust(self, class_trust: np.ndarray | None) -> np.ndarray | None:
        return class_trust

    def apply(self, hard: np.ndarray, soft: np.ndarray, weak: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Map `soft` in place, in float32: within 1e-6 of float64. NaN stays NaN."""
        if self.weak or not weak.any():
            self._map(soft)
        else:
            sharp = soft[~weak]
            self._map(sharp)
            soft[~weak] = sharp
        return hard, soft

    def _map(self, soft: np.ndarray) -> None:
        """The map, in place."""
        names = parameter_names(self.method, self.activation)
        parameters = self.parameters.astype(np.float32).T  # (k, classes or 1)
        for block in row_blocks(len(soft), soft.shape[1], _BLOCK):
            rows = soft[block]
            first, *others = terms(rows, self.method, self.activation)
            logits = first * parameters[0]  # (rows, classes)
            for term, slope in zip(others, parameters[1:], strict=False):
                logits += term * slope
            if names[-1] == "shift":
                logits += parameters[-1]
            if self.prior is not None:
                logits += self.prior.astype(np.float32)
            rows[...] = as_probabilities(logits, rows, self.activation)


def as_logits(p: np.ndarray, activation: Activation) -> np.ndarray:
    """(n, classes) probabilities -> float64 log-odds, or log probabilities of exclusive classes; NaN stays NaN."""
    return terms(p.astype(np.float64), "temperature", activation)[0]


def as_probabilities(logits: np.ndarray, before: np.ndarray, activation: Activation) -> np.ndarray:
    """(n, classes) logits, which may be overwritten -> probabilities; before: what exclusive classes had to share."""
    return _sigmoid(logits) if activation == "sigmoid" else _softmax(logits, before)


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-x)), which overwrites its argument; exp may overflow to infinity, which gives the right 0."""
    np.negative(logits, out=logits)
    with np.errstate(over="ignore"):
        np.exp(logits, out=logits)
    logits += 1
    return np.divide(1, logits, out=logits)


def _softmax(logits: np.ndarray, before: np.ndarray) -> np.ndarray:
    """(rows, classes): the known classes share what they had before, so a row keeps its sum."""
    known = ~np.isnan(before)
    top = np.max(logits, axis=1, where=known, initial=-np.inf, keepdims=True)  # (rows, 1)
    shares = np.exp(logits - np.where(np.isfinite(top), top, 0))
    mass = before.sum(axis=1, where=known, keepdims=True)
    return shares * (mass / np.maximum(shares.sum(axis=1, where=known, keepdims=True), 1))  # the top one has 1
