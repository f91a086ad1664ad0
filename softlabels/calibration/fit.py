"""Fitting a calibration: penalised maximum likelihood by Newton's method, all classes side by side, in float64.

    -log likelihood of the annotations + sum_k (parameter_k - centre_k)^2 / (2 spread_k^2)

The shared fit is one map for all classes; its centre is the map that changes nothing, and its spreads are wide. A
class's own fit has the shared one as its centre, so a class with few positives stays close to it. Both problems are
convex. Which fit is used is decided in calibrate.py.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from softlabels.calibration.maps import Method, parameter_names, terms
from softlabels.classes.class_list import Activation

SHARED_SLOPE, SHARED_SHIFT = 1.0, 3.0  # standard deviation of the shared map around the one that changes nothing
CLASS_SLOPE, CLASS_SHIFT = 0.5, 1.5  # of a class's map around the shared one
_STEPS, _HALVINGS = 100, 30
_ENOUGH = 1e-8  # nats that another step would gain
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
        known = hard == hard  # False for NaN
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
        return Evidence(
            terms=cut, hard=self.hard[rows][:, classes], known=self.known[rows][:, classes], activation=self.activation
        )

    def blocks(self) -> Iterator["Evidence"]:
        step = max(1, _BLOCK // max(1, self.hard.shape[1]))
        return (self.part(slice(first, first + step)) for first in range(0, len(self.hard), step))

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
    value, gradient, hessian = 0.0, 0.0, 0.0
    for block in evidence.blocks():
        losses, said = losses_of(block.logits(parameters), block.hard, block.known, block.activation)
        off = np.where(block.known, said - block.hard, 0)
        value = value + losses.sum(axis=0)
        gradient = gradient + np.stack([(off * term).sum(axis=0) for term in block.terms], axis=1)
        hessian = hessian + _hessian(block, np.where(block.known, said, 0), together=len(parameters) == 1)
    if len(parameters) == 1:
        return np.sum(value, keepdims=True), np.sum(gradient, axis=0, keepdims=True), hessian
    if evidence.activation == "softmax":
        return np.sum(value, keepdims=True), np.reshape(gradient, (1, -1)), hessian
    return value, gradient, hessian


def _hessian(block: Evidence, said: np.ndarray, *, together: bool) -> np.ndarray:
    """(problems, m, m), as `curvature` returns it."""
    softmax, k = block.activation == "softmax", len(block.terms)
    weight = said if softmax else said * (1 - said)
    own = np.empty((said.shape[1], k, k))  # of each class with itself
    for i, term in enumerate(block.terms):
        for j, other in enumerate(block.terms[: i + 1]):
            own[:, i, j] = own[:, j, i] = (weight * term * other).sum(axis=0)
    if not softmax:
        return own.sum(axis=0, keepdims=True) if together else own
    pulls = np.stack([said * term for term in block.terms], axis=2)  # (n, classes, k)
    if together:
        means = pulls.sum(axis=1)  # (n, k)
        return own.sum(axis=0, keepdims=True) - (means.T @ means)[None]
    pulls = pulls.reshape(len(said), -1)
    whole = -(pulls.T @ pulls)
    for c, here in enumerate(own):
        whole[c * k : c * k + k, c * k : c * k + k] += here
    return whole[None]


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
    """(1, k): one map for all classes that have both a positive and a negative."""
    names = parameter_names(method, evidence.activation)
    if evidence.activation == "sigmoid":
        hard, known = evidence.hard == 1, evidence.known
        evidence = evidence.part(slice(None), hard.any(axis=0) & (known & ~hard).any(axis=0))
    identity = np.array([[name != "shift" for name in names]], np.float64)
    spread = np.array([SHARED_SHIFT if name == "shift" else SHARED_SLOPE for name in names])
    return _fit(evidence, identity, spread, names, together=True)


def fit_classes(evidence: Evidence, method: Method, shared: np.ndarray) -> np.ndarray:
    """(classes, k): a map for each class, held near the shared one."""
    names = parameter_names(method, evidence.activation)
    spread = np.array([CLASS_SHIFT if name == "shift" else CLASS_SLOPE for name in names])
    classes = evidence.hard.shape[1]
    step = classes if evidence.activation == "softmax" else _CLASSES
    parts = (slice(first, first + step) for first in range(0, classes, step))
    return np.concatenate([_fit(evidence.part(slice(None), part), shared, spread, names) for part in parts])


def _fit(
    evidence: Evidence, centre: np.ndarray, spread: np.ndarray, names: tuple[str, ...], *, together: bool = False
) -> np.ndarray:
    """The best parameters, (1, k) together or (classes, k); where a slope would be negative, with 0 for it."""
    maps = 1 if together else evidence.hard.shape[1]
    slope = np.array(names) != "shift"
    problems = 1 if evidence.activation == "softmax" else maps
    centre, spread, slope = (np.tile(part, (maps, 1)).reshape(problems, -1) for part in (centre, spread, slope))
    best = _newton(evidence, centre, centre, spread, np.ones(centre.shape, bool))
    negative = (best < 0) & slope
    if negative.any():
        best = _newton(evidence, np.where(negative, 0, best), centre, spread, ~negative)
    return best.reshape(maps, -1)


def _newton(
    evidence: Evidence, start: np.ndarray, centre: np.ndarray, spread: np.ndarray, free: np.ndarray
) -> np.ndarray:
    """Newton's method from `start` over the parameters that are free, all (problems, m)."""
    now, at = start, _posterior(evidence, start, centre, spread)
    for _ in range(_STEPS):
        move = _move(at, free)
        if np.abs((at[1] * move).sum(axis=1)).max(initial=0) < _ENOUGH:
            break
        size = np.ones((len(now), 1))
        for _ in range(_HALVINGS):
            tried = now + size * move
            then = _posterior(evidence, tried, centre, spread)
            worse = then[0] > at[0] + 1e-12 * np.abs(at[0])
            if not worse.any():
                break
            size[worse] /= 2
        else:
            break  # nothing is left to gain but rounding errors
        now, at = tried, then
    return now


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
