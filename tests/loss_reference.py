"""The distillation loss in float64 NumPy, one class and one formula at a time: what `softlabels.loss` must equal.

Written from the design, not from the implementation: every function here is slow, plain and differentiated by
hand. Inputs are the float32 values the implementation sees, widened. Not here: any Keras.
"""

from typing import NamedTuple

import numpy as np

TINY = float(np.finfo(np.float32).tiny)  # smallest normal float32: below it a probability counts as zero
SLOPE_FLOOR = 2.0**-116  # a student probability below this gets no gradient from the soft half
KERAS_LOW = float(np.float32(1e-7))  # Keras's own clip of probabilities, used by its cross-entropies
KERAS_HIGH = float(np.float32(1.0 - 1e-7))


class Reference(NamedTuple):
    """loss and entropy (batch,): L and H of the tolerance; gradient (batch, classes): dL / d student."""

    loss: np.ndarray
    gradient: np.ndarray
    entropy: np.ndarray


def softplus(x):
    """log(1 + exp(x)) without overflow."""
    return np.maximum(x, 0.0) + np.log1p(np.exp(-np.abs(x)))


def sigmoid(x):
    """1 / (1 + exp(-x)) without overflow."""
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1.0, e) / (1.0 + e)


def softmax(x):
    """Softmax over the last axis."""
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def log_softmax(x):
    """Log of the softmax over the last axis."""
    shifted = x - x.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def soften_bernoulli(q, temperature):
    """Teacher probabilities (…,) -> (q_T, 1 - q_T), certain ones staying certain."""
    with np.errstate(divide="ignore"):
        v = (np.log(np.where(q < TINY, 0.0, q)) - np.log1p(-q)) / temperature
    return sigmoid(v), sigmoid(-v)


def xlogy(x, y):
    """x * log(y), 0 where x is 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(x == 0, 0.0, x * np.log(y))


def student_log_odds(student, from_logits):
    """-> (log-odds, d log-odds / d student), probabilities clipped at the smallest normal float32."""
    if from_logits:
        return student, np.ones_like(student)
    z = np.log(np.maximum(student, TINY)) - np.log(np.maximum(1.0 - student, TINY))
    inside = (student >= SLOPE_FLOOR) & (student < 1.0)
    p = np.where(inside, student, 0.5)
    slope = np.where(inside, 1.0 / (p * (1.0 - p)), 0.0)
    return z, slope


def binary_cross_entropy(target, student, from_logits):
    """Keras's binary cross-entropy per class and its derivative."""
    if from_logits:
        return target * softplus(-student) + (1.0 - target) * softplus(student), sigmoid(student) - target
    p = np.clip(student, KERAS_LOW, KERAS_HIGH)
    inside = (student >= KERAS_LOW) & (student <= KERAS_HIGH)
    value = -target * np.log(p) - (1.0 - target) * np.log(1.0 - p)
    return value, np.where(inside, (1.0 - target) / (1.0 - p) - target / p, 0.0)


def categorical_cross_entropy(target, student, from_logits):
    """Keras's categorical cross-entropy per row and its derivative (target need not sum to one)."""
    if from_logits:
        total = target.sum(axis=-1, keepdims=True)
        return -(target * log_softmax(student)).sum(axis=-1), total * softmax(student) - target
    mass = student.sum(axis=-1, keepdims=True)
    scaled = student / mass
    p = np.clip(scaled, KERAS_LOW, KERAS_HIGH)
    inside = (scaled >= KERAS_LOW) & (scaled <= KERAS_HIGH)
    pull = np.where(inside, target / p, 0.0)  # -dL / d scaled
    return -(target * np.log(p)).sum(axis=-1), ((pull * scaled).sum(axis=-1, keepdims=True) - pull) / mass


def weighted_binary_cross_entropy(pos_weight):
    """Binary cross-entropy whose positives weigh (classes,) `pos_weight`, of logits, and its derivative."""

    def loss(target, student, from_logits):
        assert from_logits
        value = pos_weight * target * softplus(-student) + (1.0 - target) * softplus(student)
        return value, (1.0 - target) * sigmoid(student) - pos_weight * target * sigmoid(-student)

    return loss


def binary_focal_cross_entropy(alpha, gamma):
    """Keras's, with class balancing by (classes,) `alpha`, of hard labels 0 or 1 and logits, and its derivative."""

    def loss(target, student, from_logits):
        assert from_logits
        z = np.where(target == 1, student, -student)  # the log-odds of being right
        weight = np.where(target == 1, alpha, 1.0 - alpha)
        p, wrong, cross = sigmoid(z), sigmoid(-z), softplus(-z)
        slope = -(wrong ** (gamma + 1)) - gamma * cross * wrong**gamma * p
        return weight * wrong**gamma * cross, weight * slope * np.where(target == 1, 1.0, -1.0)

    return loss


def sigmoid_reference(
    hard, soft, student, *, alpha, temperature, trust, from_logits, smoothing=0.0, hard_loss=binary_cross_entropy
):
    """Per class, then the mean over all C; see the design, section "The loss"."""
    known, told = ~np.isnan(hard), ~np.isnan(soft)
    target = np.where(known, hard, 0.0) * (1.0 - smoothing) + 0.5 * smoothing
    a = alpha * trust
    hard_weight = np.where(known, np.where(told, 1.0 - a, 1.0), 0.0)
    soft_weight = np.where(told, np.where(known, a, trust), 0.0)
    hard_term, hard_slope = hard_loss(target, student, from_logits)
    q, not_q = soften_bernoulli(np.where(told, soft, 0.5), temperature)
    z, slope = student_log_odds(student, from_logits)
    cross = q * softplus(-z / temperature) + not_q * softplus(z / temperature)
    divergence = cross + xlogy(q, q) + xlogy(not_q, not_q)
    gap = np.where(z >= 0, not_q - sigmoid(-z / temperature), sigmoid(z / temperature) - q)
    loss = hard_weight * hard_term + soft_weight * temperature**2 * divergence
    gradient = hard_weight * hard_slope + soft_weight * temperature * gap * slope
    return Reference(loss.mean(-1), gradient / hard.shape[-1], np.where(told, cross, 0.0).mean(-1))


def softmax_reference(hard, soft, student, *, alpha, temperature, trust, from_logits, smoothing=0.0, min_mass=0.1):
    """Per row; a soft row needs two covered classes and enough mass, a hard row something to sum.

    Of a hard row that sums to less than 1 the rest is missing, and hands its weight to the soft term.
    """
    classes = hard.shape[-1]
    hard_sum = np.where(np.isnan(hard).any(-1), 0.0, hard.sum(-1))
    known = hard_sum > 0
    target = np.where(known[:, None], hard, 0.0) / np.where(known, hard_sum, 1.0)[:, None]
    target = target * (1.0 - smoothing) + smoothing / classes
    covered = ~np.isnan(soft)
    q = np.where(covered, soft, 0.0)
    mass = q.sum(-1)
    told = (covered.sum(-1) >= 2) & (mass >= max(min_mass, TINY))
    q = np.where(told[:, None], q, 1.0)
    covered = covered | ~told[:, None]
    belief = (np.where(told[:, None], q, 0.0) * trust).sum(-1) / np.where(told, mass, 1.0)
    share = np.minimum(hard_sum, 1.0)
    hard_weight = share * np.where(told, 1.0 - alpha * belief, 1.0)
    soft_weight = np.where(told, share * alpha * belief + (1.0 - share) * belief, 0.0)
    divergence, cross, gap = softened_divergence(q, covered, student, temperature, from_logits)
    hard_term, hard_slope = categorical_cross_entropy(target, student, from_logits)
    loss = hard_weight * hard_term + soft_weight * temperature**2 * divergence
    gradient = hard_weight[:, None] * hard_slope + soft_weight[:, None] * temperature * gap
    return Reference(loss, gradient, np.where(told, cross, 0.0))


def softened_divergence(q, covered, student, temperature, from_logits):
    """-> (KL, cross-entropy, T * dKL / d student) over the covered classes on both sides."""
    with np.errstate(divide="ignore"):
        v = np.log(np.where(covered & (q >= TINY), q, 0.0)) / temperature
    z = student if from_logits else np.log(np.maximum(student, TINY))
    with np.errstate(divide="ignore"):
        slope = 1.0 if from_logits else np.where(student >= SLOPE_FLOOR, 1.0 / student, 0.0)
    z = np.where(covered, z / temperature, -np.inf)
    q_soft, p_soft = softmax(v), softmax(z)
    cross = -np.where(q_soft > 0, q_soft * np.where(covered, log_softmax(z), 0.0), 0.0).sum(-1)
    return cross + xlogy(q_soft, q_soft).sum(-1), cross, (p_soft - q_soft) * slope
