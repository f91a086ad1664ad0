"""How far a student is from its teacher, in log space: the arithmetic that the loss and the metrics share.

Pure functions in `keras.ops`, so the same on every backend. Targets arrive without NaN (the caller masks them).
A teacher probability of exactly 0 or 1 keeps its mass at every temperature; anything below the smallest normal
float32 counts as 0, because processors flush it to 0 at will. A student probability is clipped there instead, since
it needs a finite logarithm. What that costs: its log is never below -87.3 (so at T = 20 a student's exact 0 weighs
e^(-87.3 / 20) = 1.3 % of its exact 1), and where it is below 2^-116 or is exactly 1 it gets no gradient from the
teacher. Logits have neither limit.

Source: Hinton, Vinyals, Dean 2015, arXiv:1503.02531, section 2.
"""

from typing import Any

from keras import ops

TINY = 2.0**-126            # the smallest normal float32
SLOPE_FLOOR = 2.0**-116     # 1 / p above this stays finite in float32 after a factor of T times a sample weight
FAR = 1e30                  # log-odds of certainty: finite, so 0 * FAR is 0


def sigmoid_divergence(soft: Any, student: Any, *, temperature: float, from_logits: bool) -> Any:
    """KL of two Bernoulli distributions, class by class: sigmoid(logit q / T) to sigmoid(logit p / T).

    Args:
      soft: (batch, classes) float32 teacher probabilities q, no NaN.
      student: (batch, classes) float32 log-odds, or probabilities p.
      temperature: T > 0.
      from_logits: whether `student` is log-odds.
    Returns: (batch, classes) float32, at least 0 up to rounding; without the factor T².
    """
    log_q, log_not_q = _log(soft), _log_not(soft)                   # (batch, classes) twice
    if temperature == 1.0:
        q, not_q = soft, 1.0 - soft
        entropy = -(q * log_q + not_q * log_not_q)
    else:
        v = (log_q - log_not_q) / temperature
        v = ops.where(soft < TINY, -FAR, ops.where(soft < 1.0, v, FAR))
        q, not_q = ops.sigmoid(v), ops.sigmoid(-v)
        entropy = q * ops.softplus(-v) + not_q * ops.softplus(v)
    if temperature == 1.0 and not from_logits:
        return -(q * _log_with_slope(student) + not_q * _log_not(student)) - entropy
    z = student if from_logits else _log_with_slope(student) - _log_not(student)
    z = z / temperature
    return q * ops.softplus(-z) + not_q * ops.softplus(z) - entropy


def softmax_divergence(soft: Any, covered: Any, student: Any, *, temperature: float, from_logits: bool) -> Any:
    """KL of softmax(log q / T) to the student at T, over the covered classes on both sides.

    Args:
      soft: (batch, classes) float32 teacher probabilities q, no NaN; each row with some mass where covered.
      covered: (batch, classes) bool, the classes the teacher knows; at least one in each row.
      student: (batch, classes) float32 logits, or probabilities p.
      temperature: T > 0.
      from_logits: whether `student` is logits.
    Returns: (batch,) float32, at least 0 up to rounding; without the factor T².
    """
    present = ops.logical_and(covered, soft >= TINY)                # (batch, classes)
    if temperature == 1.0:
        q = ops.where(present, soft, 0.0)
        q = q / ops.sum(q, axis=-1, keepdims=True)
        log_q = _log(q)
    else:
        v = ops.where(present, _log(soft) / temperature, -FAR)
        q, log_q = ops.softmax(v, axis=-1), ops.log_softmax(v, axis=-1)
    z = student if from_logits else _log_with_slope(student)
    z = ops.where(covered, z / temperature, -FAR)
    # One fused kernel on TensorFlow; its gradient is softmax(z) - q, exact because q sums to one.
    cross_entropy = ops.categorical_crossentropy(q, z, from_logits=True)            # (batch,)
    return cross_entropy + ops.sum(q * log_q, axis=-1)


def _log(p: Any) -> Any:
    """Log of p clipped at the smallest normal float32."""
    return ops.log(ops.maximum(p, TINY))


def _log_not(p: Any) -> Any:
    """log(1 - p), accurate for small p too; -87.3 without gradient at p = 1."""
    below = p < 1.0
    return ops.where(below, ops.log1p(-ops.where(below, p, 0.0)), -87.33654475)     # log of the smallest normal


def _log_with_slope(p: Any) -> Any:
    """`_log` for the student: no gradient below 2^-116, where 1 / p times T would overflow."""
    return _log(ops.where(p < SLOPE_FLOOR, ops.stop_gradient(p), p))
