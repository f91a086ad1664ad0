"""How far a student is from its teacher, in log space: the arithmetic that all losses and metrics share.

Pure functions, written in `ops`, which is `keras.ops` or `pytorch.ops`, so the same on every backend of Keras and in
PyTorch without it. Targets arrive without NaN (the caller masks them).
A teacher probability of exactly 0 or 1 keeps its mass at every temperature; anything below the smallest normal
float32 counts as 0, because processors flush it to 0 at will. A student probability is clipped there instead,
since it needs a finite logarithm. What that costs: its log is never below -87.3 (so at T = 20 a student's exact 0
weighs e^(-87.3 / 20) = 1.3 % of its exact 1), and a probability below 2^-116, or of exactly 1 under sigmoid, gets
no gradient from the teacher. Logits have neither limit.

The gradient is written down, not derived by the framework: T (p_T - q_T) / T² needs no second exponential, and
holds its precision where both sides agree. It has no second derivative.

Source: Hinton, Vinyals, Dean 2015, arXiv:1503.02531, section 2.
"""

from typing import Any

TINY = 2.0**-126  # the smallest normal float32
LOG_TINY = -87.33654475  # its logarithm
SLOPE_FLOOR = 2.0**-116  # 1 / p above this stays finite in float32 after a factor of T times a sample weight
FAR = 1e20  # log-odds of certainty: finite, so 0 * FAR is 0


def sigmoid_divergence(ops: Any, soft: Any, student: Any, *, temperature: float, from_logits: bool) -> Any:
    """KL of two Bernoulli distributions, class by class: sigmoid(logit q / T) to sigmoid(logit p / T).

    Args:
      ops: `keras.ops` or `pytorch.ops`.
      soft: (batch, classes) float32 teacher probabilities q, no NaN.
      student: (batch, classes) float32 log-odds, or probabilities p.
      temperature: T > 0.
      from_logits: whether `student` is log-odds.
    Returns: (batch, classes) float32, at least 0 up to rounding; without the factor T².
    """
    q, not_q, entropy = _soften(ops, soft, temperature)
    x = ops.stop_gradient(student)
    if from_logits:
        cross_entropy, slope = _cross_entropy(ops, q, not_q, x / temperature)
        return _with_slope(ops, cross_entropy - entropy, slope / temperature, student)
    if temperature == 1.0:  # direct: exact for tiny p, and no exponential
        cross_entropy, slope = -(q * _log(ops, x) + not_q * _log_not(ops, x)), x - q
    else:
        cross_entropy, slope = _cross_entropy(ops, q, not_q, _log_odds(ops, x) / temperature)
    inside = ops.logical_and(x >= SLOPE_FLOOR, x < 1.0)
    p = ops.where(inside, x, 0.5)
    slope = ops.where(inside, slope / (temperature * p * (1.0 - p)), 0.0)
    return _with_slope(ops, cross_entropy - entropy, slope, student)


def binary_cross_entropy(ops: Any, target: Any, student: Any) -> Any:
    """(batch, classes) targets in [0, 1] and log-odds -> (batch, classes), exact where the student is sure."""
    cross_entropy, slope = _cross_entropy(ops, target, 1.0 - target, ops.stop_gradient(student))
    return _with_slope(ops, cross_entropy, slope, student)


def _soften(ops: Any, soft: Any, temperature: float) -> tuple[Any, Any, Any]:
    """Teacher probabilities -> q_T, 1 - q_T and their entropy, (batch, classes) each, from one exponential."""
    if temperature == 1.0:
        not_q = 1.0 - soft
        return soft, not_q, -(soft * _log(ops, soft) + not_q * _log_not(ops, soft))
    v = _log_odds(ops, soft) / temperature
    v = ops.where(soft < TINY, -FAR, ops.where(soft < 1.0, v, FAR))  # the certain stay certain
    minor, major, log_sum = _sides(ops, -ops.abs(v))
    negative = v < 0.0
    entropy = log_sum + ops.abs(v) * minor
    return ops.where(negative, minor, major), ops.where(negative, major, minor), entropy


def _cross_entropy(ops: Any, q: Any, not_q: Any, z: Any) -> tuple[Any, Any]:
    """q softplus(-z) + (1 - q) softplus(z), and its slope sigmoid(z) - q, without cancellation on either side."""
    negative = z < 0.0
    u = -ops.abs(z)
    minor, _, log_sum = _sides(ops, u)
    wanted = ops.where(negative, q, not_q)  # what the teacher gives the side the student thinks less likely
    gap = minor - wanted
    return log_sum - u * wanted, ops.where(negative, gap, -gap)


def _sides(ops: Any, u: Any) -> tuple[Any, Any, Any]:
    """u <= 0 -> sigmoid(u), sigmoid(-u), softplus(u)."""
    e = ops.exp(u)
    major = 1.0 / (1.0 + e)
    return e * major, major, ops.log1p(e)


def softmax_divergence(
    ops: Any, soft: Any, covered: Any, student: Any, *, temperature: float, from_logits: bool
) -> Any:
    """KL of softmax(log q / T) to the student at T, over the covered classes on both sides.

    Args:
      ops: `keras.ops` or `pytorch.ops`.
      soft: (batch, classes) float32 teacher probabilities q, no NaN, 0 where not covered.
      covered: (batch, classes) bool, the classes the teacher knows.
      student: (batch, classes) float32 logits, or probabilities p.
      temperature: T > 0.
      from_logits: whether `student` is logits.
    Returns: (batch,) float32, at least 0 up to rounding; without the factor T². A row without any mass gets some
      finite number: give it no weight.
    """
    x = ops.stop_gradient(student)
    teacher, v, below = _powers(ops, soft, temperature)
    q, q_rest, q_log_sum = _normalised(ops, teacher, below)
    if from_logits:
        z = ops.where(covered, x, -FAR)
        top = ops.max(z, axis=-1, keepdims=True)
        below, z = z < top, (z - top) / temperature
        powers = ops.exp(z)
    else:
        powers, z, below = _powers(ops, ops.where(covered, ops.maximum(x, TINY), 0.0), temperature)
    p, p_rest, p_log_sum = _normalised(ops, powers, below)
    # Where both are near 1 their difference is that of what they leave, which has finer steps.
    slope = ops.where(ops.minimum(p, q) > 0.5, q_rest - p_rest, p - q) / temperature
    if not from_logits:
        inside = x >= SLOPE_FLOOR
        slope = ops.where(inside, slope / ops.where(inside, x, 1.0), 0.0)
    return ops.sum(_with_slope(ops, q * (v - z), slope, student), axis=-1) + (p_log_sum - q_log_sum)


def _powers(ops: Any, p: Any, temperature: float) -> tuple[Any, Any, Any]:
    """(batch, classes) -> e = (p / largest)^(1 / T), its logarithm, and which classes are below the largest.

    Zeros stay zeros; the largest has log 0, whatever the division makes of it.
    """
    top = ops.max(p, axis=-1, keepdims=True)  # (batch, 1)
    below = p < top
    ratio = p / ops.maximum(top, TINY)
    log_e = ops.where(below, _log(ops, ratio) / temperature, 0.0)
    e = ratio if temperature == 1.0 else ops.where(p >= TINY, ops.exp(log_e), 0.0)
    return e, log_e, below


def _normalised(ops: Any, e: Any, below: Any) -> tuple[Any, Any, Any]:
    """e, of which the largest is 1 -> e / sum e, what the largest leaves (batch, 1), log of the sum (batch,).

    The largest is kept out of the sum, or the log of a sum just above 1 would lose the rest. It is known by `below`,
    not by its value: a compiled division may leave it one step short of 1.
    """
    rest = ops.sum(ops.where(below, e, 0.0), axis=-1, keepdims=True)  # (batch, 1)
    ties = ops.sum(ops.where(below, 0.0, 1.0), axis=-1, keepdims=True)  # at least 1
    rest = rest + (ties - 1.0)
    total = 1.0 + rest
    return e / total, rest / total, ops.squeeze(ops.log1p(rest), -1)


def _with_slope(ops: Any, value: Any, slope: Any, student: Any) -> Any:
    """`value`, to which any framework's automatic differentiation gives the derivative `slope` by `student`."""
    return value + ops.stop_gradient(slope) * (student - ops.stop_gradient(student))


def _log(ops: Any, p: Any) -> Any:
    """Log of p clipped at the smallest normal float32."""
    return ops.log(ops.maximum(p, TINY))


def _log_odds(ops: Any, p: Any) -> Any:
    """log(p / (1 - p)), both clipped at the smallest normal float32."""
    return ops.log(ops.maximum(p, TINY) / ops.maximum(1.0 - p, TINY))


def _log_not(ops: Any, p: Any) -> Any:
    """log(1 - p), accurate for small p too; clipped like `_log` at p = 1."""
    return ops.maximum(ops.log1p(-p), LOG_TINY)
