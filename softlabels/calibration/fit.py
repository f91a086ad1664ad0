"""Fitting a calibration: penalised maximum likelihood by Newton's method, all classes side by side, in float64.

    -log likelihood of the annotations + sum_k (parameter_k - centre_k)^2 / (2 spread_k^2), no slope below 0

The shared fit is one map for all classes; its centre is the map that changes nothing, and its spreads are wide. A
class's own fit has the shared one as its centre, so a class with few positives stays close to it. One that people
marked where it is, but hardly ever where it is not, keeps the shared map: its labels would make it present everywhere.
Both problems are convex. scipy's L-BFGS-B finds the same optima, which a test asks for, but takes 2 to 9 times as long
for a map per class: it uses no Hessian. Which fit is used is decided in calibrate.py.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from softlabels.calibration.maps import Method, parameter_names, terms
from softlabels.classes.class_list import Activation
from softlabels.evidence.agreement import row_blocks

SHARED_SLOPE, SHARED_SHIFT = 1.0, 3.0  # standard deviation of the shared map around the one that changes nothing
CLASS_SLOPE, CLASS_SHIFT = 0.5, 1.5  # of a class's map around the shared one
MIN_NEGATIVES = 5  # absences that a class needs for a map of its own
_STEPS, _HALVINGS = 100, 30
_ENOUGH = 1e-9  # nats that another step would gain
_BLOCK = 1 << 16  # values at once: they stay in cache
_CLASSES = 64  # fitted side by side, so that slow ones hold up few


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Evidence:
    """What a map is fitted to.

    terms: what each parameter multiplies, (n, classes) each, or 1.0. hard: (n, classes), 0 where unknown; rows sum to
    1 under softmax. known: (n, classes) bool.
    """

    terms: list[np.ndarray | float]
    hard: np.ndarray
    known: np.ndarray
    activation: Activation

    @classmethod
    def of(cls, hard: np.ndarray, soft: np.ndarray, method: Method, activation: Activation) -> "Evidence":
        """hard, soft: (n, classes) float32; both NaN where either is unknown."""
        known = ~np.isnan(hard)
        hard = np.where(known, hard, 0)
        if activation == "softmax":
            hard = hard / hard.sum(axis=1, keepdims=True)
        factors: list[np.ndarray | float] = list(terms(np.where(known, soft, 0.5), method, activation))
        if parameter_names(method, activation)[-1] == "shift":
            factors.append(1.0)
        return cls(terms=factors, hard=hard, known=known, activation=activation)

    def part(self, rows: np.ndarray | slice, classes: np.ndarray | slice = slice(None)) -> "Evidence":
        """Some rows and some classes."""
        cut = [t if isinstance(t, float) else t[rows][:, classes] for t in self.terms]
        return replace(self, terms=cut, hard=self.hard[rows][:, classes], known=self.known[rows][:, classes])

    def blocks(self) -> Iterator["Evidence"]:
        return map(self.part, row_blocks(len(self.hard), self.hard.shape[1], _BLOCK))

    def logits(self, parameters: np.ndarray) -> np.ndarray:
        """(classes or 1, k) -> (n, classes) float64."""
        total = np.zeros(self.hard.shape)
        for term, factor in zip(self.terms, parameters.T, strict=True):
            total += term * factor
        return total


def curvature(parameters: np.ndarray, evidence: Evidence) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Minus the log likelihood, in nats, with its gradient and Hessian, one of each for every separate problem.

    Args:
      parameters: (classes, k), or (1, k) for one map of all classes.
    Returns: value (problems,), gradient (problems, m), Hessian (problems, m, m). Independent classes are a problem each
      with m = k; those that exclude each other are one with m = classes * k; one map of all is one with m = k.
    """
    together = len(parameters) == 1
    value, gradient, hessian = np.zeros(1), np.zeros(parameters.shape), np.zeros((1, 1, 1))
    for block in evidence.blocks():
        losses, p = losses_of(block.logits(parameters), block.hard, block.known, block.activation)
        off = np.where(block.known, p - block.hard, 0)
        value = value + losses.sum(axis=0)
        gradient = gradient + np.stack([(off * term).sum(axis=0) for term in block.terms], axis=1)
        hessian = hessian + _hessian(block, np.where(block.known, p, 0), together=together)
    if together:
        return value.sum(keepdims=True), gradient.sum(axis=0, keepdims=True), hessian
    if evidence.activation == "softmax":
        return value.sum(keepdims=True), gradient.reshape(1, -1), hessian
    return value, gradient, hessian


def _hessian(block: Evidence, p: np.ndarray, *, together: bool) -> np.ndarray:
    """(problems, m, m), as `curvature` returns it."""
    softmax, k = block.activation == "softmax", len(block.terms)
    weight = p if softmax else p * (1 - p)
    own = np.empty((p.shape[1], k, k))  # of each class with itself
    for i, term in enumerate(block.terms):
        for j, other in enumerate(block.terms[: i + 1]):
            own[:, i, j] = own[:, j, i] = (weight * term * other).sum(axis=0)
    if not softmax:
        return own.sum(axis=0, keepdims=True) if together else own
    pulls = np.stack([p * term for term in block.terms], axis=2)  # (n, classes, k)
    if together:
        means = pulls.sum(axis=1)  # (n, k)
        return own.sum(axis=0, keepdims=True) - (means.T @ means)[None]
    pulls = pulls.reshape(len(p), -1)
    joint = -(pulls.T @ pulls)
    for c, here in enumerate(own):
        joint[c * k : c * k + k, c * k : c * k + k] += here
    return joint[None]


def losses_of(
    logits: np.ndarray, hard: np.ndarray, known: np.ndarray, activation: Activation
) -> tuple[np.ndarray, np.ndarray]:
    """Log-loss of each value, 0 where unknown, and the probabilities, all (n, classes); log space throughout."""
    if activation == "sigmoid":
        small = np.exp(-np.abs(logits))
        softplus = np.maximum(logits, 0) + np.log1p(small)
        return np.where(known, softplus - hard * logits, 0), np.where(logits >= 0, 1, small) / (1 + small)
    logits = np.where(known, logits, -np.inf)
    top = logits.max(axis=1, keepdims=True)  # every row has a known class
    total = np.log(np.exp(logits - top).sum(axis=1, keepdims=True)) + top  # (n, 1)
    return hard * np.where(known, total - logits, 0), np.exp(logits - total)


def fit_shared(evidence: Evidence, method: Method) -> np.ndarray:
    """(1, k): one map for all classes that have both positives and negatives."""
    if evidence.activation == "sigmoid":
        evidence = evidence.part(slice(None), (evidence.hard == 1).any(axis=0) & ~one_sided(evidence))
    identity = np.array([[float(name != "shift") for name in parameter_names(method, evidence.activation)]])
    return _fit(evidence, method, identity, slope=SHARED_SLOPE, shift=SHARED_SHIFT, maps=1)


def fit_classes(evidence: Evidence, method: Method, shared: np.ndarray) -> np.ndarray:
    """(classes, k): a map for each class, held near the shared one; those of `one_sided` keep it."""
    classes = evidence.hard.shape[1]
    step = classes if evidence.activation == "softmax" else _CLASSES
    parts = [evidence.part(slice(None), slice(first, first + step)) for first in range(0, classes, step)]
    fits = [_fit(each, method, shared, slope=CLASS_SLOPE, shift=CLASS_SHIFT, maps=each.hard.shape[1]) for each in parts]
    own = np.concatenate(fits)
    own[one_sided(evidence)] = shared
    return own


def one_sided(evidence: Evidence) -> np.ndarray:
    """(classes,) bool: independent classes with a positive and hardly a negative."""
    if evidence.activation == "softmax":  # every row of another class is a negative
        return np.zeros(evidence.hard.shape[1], bool)
    present = (evidence.hard == 1).sum(axis=0)
    return (present > 0) & (evidence.known.sum(axis=0) - present < MIN_NEGATIVES)


def _fit(
    evidence: Evidence, method: Method, centre: np.ndarray, *, slope: float, shift: float, maps: int
) -> np.ndarray:
    """(maps, k) the best parameters; slope, shift: how far they spread."""
    shifts = np.array(parameter_names(method, evidence.activation)) == "shift"
    parts = (centre, np.where(shifts, shift, slope), np.where(shifts, -np.inf, 0))
    return fit_near(evidence, *(np.tile(part, (maps, 1)) for part in parts))


def fit_near(evidence: Evidence, centre: np.ndarray, spread: np.ndarray, lowest: np.ndarray) -> np.ndarray:
    """The best parameters, by projected Newton steps (Bertsekas 1982).

    Args:
      centre, spread, lowest: (maps, k) float64 where each parameter is held, by what standard deviation, and its least
        value; one map is of all classes.
    Returns: (maps, k) float64.
    """
    maps, problems = len(centre), 1 if evidence.activation == "softmax" else len(centre)
    centre, spread, lowest = (part.reshape(problems, -1) for part in (centre, spread, lowest))
    now, at = centre, _posterior(evidence, centre, centre, spread)
    for _ in range(_STEPS):
        move = _move(at, (now > lowest) | (at[1] < 0))  # a slope of 0 that the gradient would push lower stays there
        if np.abs((at[1] * move).sum(axis=1)).max(initial=0) < _ENOUGH:
            break
        size = np.ones((problems, 1))
        for _ in range(_HALVINGS):
            tried = np.maximum(now + size * move, lowest)
            then = _posterior(evidence, tried, centre, spread)
            worse = then[0] > at[0] + 1e-12 * np.abs(at[0])
            if not worse.any():
                break
            size[worse] /= 2
        else:
            break  # nothing is left to gain but rounding errors
        now, at = tried, then
    return now.reshape(maps, -1)


def _move(at: tuple[np.ndarray, np.ndarray, np.ndarray], free: np.ndarray) -> np.ndarray:
    """(problems, m): the Newton step; fixed parameters stay."""
    _, gradient, hessian = at
    hessian = np.where(free[:, :, None] & free[:, None, :], hessian, np.eye(free.shape[1]))
    return -np.linalg.solve(hessian, np.where(free, gradient, 0)[:, :, None])[:, :, 0]


def _posterior(
    evidence: Evidence, parameters: np.ndarray, centre: np.ndarray, spread: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What `curvature` gives, with the penalty; parameters: (problems, m)."""
    value, gradient, hessian = curvature(parameters.reshape(-1, len(evidence.terms)), evidence)
    away = (parameters - centre) / spread
    penalty = np.eye(parameters.shape[1]) * (spread**-2.0)[:, :, None]
    return value + (away**2).sum(axis=1) / 2, gradient + away / spread, hessian + penalty
