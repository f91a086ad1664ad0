"""The probe: logistic regression on a teacher's components, with what is known already as offset.

    logit of a class = offset + weights . components + bias

A ridge holds the weights, so that without evidence nothing changes. Independent classes have a regression each, fitted
by Newton's method: scipy's L-BFGS-B takes 20 times as long where few clips leave them separable. Exclusive classes
have one together, whose Hessian would be too large, by L-BFGS-B. BLAS is held to one thread: on a busy machine its own
threads wait for each other and take 20 times as long for matrices as small as these; classes are fitted side by side.
Which penalty is taken, and whether the outcome is believed, is decided in lesson.py.
"""

import numpy as np
from threadpoolctl import threadpool_limits

from softlabels.calibration.fit import losses_of
from softlabels.classes.class_list import Activation
from softlabels.threads import in_threads

PENALTIES = (3.0, 1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001)  # of half the squared weights, strongest first
BIAS_PENALTY = 0.1
_STEPS, _HALVINGS = 50, 20
_ENOUGH = 1e-6  # nats that another step would gain


def with_bias(components: np.ndarray) -> np.ndarray:
    """(n, k) -> (n, k + 1) float64, a column of ones after the components."""
    return np.concatenate([components, np.ones((len(components), 1))], axis=1, dtype=np.float64)


def fit_probe(
    inputs: np.ndarray,
    hard: np.ndarray,
    offset: np.ndarray,
    able: np.ndarray,
    activation: Activation,
    *,
    penalty: float,
    start: np.ndarray | None = None,
) -> np.ndarray:
    """Penalised maximum likelihood.

    Args:
      inputs: (n, k + 1) float64, of `with_bias`. hard: (n, classes), NaN where unknown; offset: alike, logits.
      able: (classes,) bool, the classes that may change. start: weights to begin with.
    Returns: (classes, k + 1) float64 weights, 0 for the other classes.
    """
    held = np.full(inputs.shape[1], penalty)
    held[-1] = BIAS_PENALTY
    weights = np.zeros((len(able), inputs.shape[1])) if start is None else start.copy()
    if activation == "softmax":
        return _together(inputs, hard, offset, able, held, weights)
    columns = np.flatnonzero(able)

    def fit(c: int) -> np.ndarray:
        known = ~np.isnan(hard[:, c])
        return _alone(inputs[known], hard[known, c].astype(np.float64), offset[known, c], held, weights[c])

    with threadpool_limits(1, user_api="blas"):
        weights[columns] = list(in_threads(fit, ((c,) for c in columns.tolist()))) or weights[columns]
    return weights


def _alone(inputs: np.ndarray, hard: np.ndarray, offset: np.ndarray, held: np.ndarray, now: np.ndarray) -> np.ndarray:
    """(k + 1,) the weights of one independent class; hard, offset: (n,)."""

    def posterior(weights: np.ndarray) -> tuple[float, np.ndarray]:
        logits = inputs @ weights + offset
        small = np.exp(-np.abs(logits))
        value = (np.maximum(logits, 0) + np.log1p(small) - hard * logits).sum() + (held * weights**2).sum() / 2
        return float(value), np.where(logits >= 0, 1, small) / (1 + small)

    value, p = posterior(now)
    for _ in range(_STEPS):
        gradient = (p - hard) @ inputs + held * now
        hessian = (inputs * (p * (1 - p))[:, None]).T @ inputs + np.diag(held)
        move = -np.linalg.solve(hessian, gradient)
        if -(gradient @ move) < _ENOUGH:
            break
        for _ in range(_HALVINGS):
            then, p_then = posterior(now + move)
            if then <= value:
                break
            move /= 2
        else:
            break  # nothing is left to gain but rounding errors
        now, value, p = now + move, then, p_then
    return now


def _together(
    inputs: np.ndarray, hard: np.ndarray, offset: np.ndarray, able: np.ndarray, held: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """(classes, k + 1) the weights of classes that exclude each other."""
    from scipy.optimize import minimize

    known, columns = ~np.isnan(hard), np.flatnonzero(able)
    target = np.where(known, hard, 0).astype(np.float64)
    target /= target.sum(axis=1, keepdims=True)

    def posterior(flat: np.ndarray) -> tuple[float, np.ndarray]:
        now = flat.reshape(len(columns), -1)
        logits = offset.astype(np.float64)
        logits[:, columns] += inputs @ now.T
        losses, p = losses_of(logits, target, known, "softmax")
        off = np.where(known, p - target, 0)[:, columns]
        return float(losses.sum() + (held * now**2).sum() / 2), (off.T @ inputs + held * now).ravel()

    if len(columns):
        found = minimize(posterior, weights[columns].ravel(), jac=True, method="L-BFGS-B", options={"maxiter": 300})
        weights[columns] = found.x.reshape(len(columns), -1)
    return weights
