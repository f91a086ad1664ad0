"""How far a student is from its teacher, in log space: the arithmetic that all losses and metrics share.

Pure functions, written in `ops`, which is `keras.ops` or `pytorch.ops`, so the same on every backend of Keras and in
PyTorch without it. Targets arrive without NaN (the caller masks them).
A teacher probability of exactly 0 or 1 keeps its mass at every temperature; anything below the smallest normal
float32 counts as 0, because processors flush it to 0 at will. A student probability is clipped there instead,
since it needs a finite logarithm. What that costs: its log is never below -87.3 (so at T = 20 a student's exact 0
weighs e^(-87.3 / 20) = 1.3 % of its exact 1), and a probability below 2^-116, or of exactly 1 under sigmoid, gets
no gradient from the teacher. Logits have neither limit.

The gradient is written down, not derived by the framework: T (p_T - q_T) needs no second exponential, and holds its
precision where both sides agree. It has no second derivative. Selections and comparisons cost a pass each over
(batch, classes), so what is missing is a factor of 0 where it can be.

Source: Hinton, Vinyals, Dean 2015, arXiv:1503.02531, section 2.
"""

from typing import Any

TINY = 2.0**-126  # the smallest normal float32
SLOPE_FLOOR = 2.0**-116  # 1 / p above this stays finite in float32 after a factor of T times a sample weight
LEAST_TOP = 2.0**-100  # below the largest of any classes that sum to 1; its ratio to 1 is a normal number
FAR = 1e20  # log-odds of certainty: finite, so 0 * FAR is 0
ALL_BUT_ONE_STEP = 1.0 - 2.0**-24  # the largest float32 below 1


def sigmoid_divergence(ops: Any, soft: Any, weight: Any, student: Any, *, temperature: float, from_logits: bool) -> Any:
    """Weighted KL of Bernoulli distributions: sigmoid(logit q / T) to sigmoid(logit p / T), summed over the classes.

    Args:
      ops: `keras.ops` or `pytorch.ops`.
      soft: (batch, classes) float32 teacher probabilities q, no NaN.
      weight: (batch, classes) float32, 0 where the teacher gave nothing.
      student: (batch, classes) float32 log-odds, or probabilities p.
      temperature: T > 0.
      from_logits: whether `student` is log-odds.
    Returns: (batch,) float32, each KL at least 0 up to rounding, times T².
    """
    x = ops.stop_gradient(student)
    if from_logits:
        divergence, slope = _of_log_odds(ops, soft, x, temperature)
    else:
        not_x = 1.0 - x
        variance = x * not_x
        x, not_x = ops.maximum(x, TINY), ops.maximum(not_x, TINY)
        if temperature == 1.0:
            slope = x - soft
            divergence = soft * _log_of_one_plus(ops, -slope / x) + (1.0 - soft) * _log_of_one_plus(ops, slope / not_x)
        else:
            divergence, slope = _of_log_odds(ops, soft, ops.log(x / not_x), temperature)
        slope = ops.where(variance >= SLOPE_FLOOR, slope / variance, 0.0)
    value = ops.sum(weight * divergence, axis=-1)
    return _scaled(ops, value, weight * slope, student, temperature)


def _log_of_one_plus(ops: Any, x: Any) -> Any:
    """log1p for x >= -1; of -1 some finite number, as it is weighted by 0."""
    return ops.log1p(ops.maximum(x, -ALL_BUT_ONE_STEP))


def _of_log_odds(ops: Any, soft: Any, log_odds: Any, temperature: float) -> tuple[Any, Any]:
    """KL of the teacher to the student at T, (batch, classes), and T times its slope by the log-odds.

    In log-odds and probabilities of the side that the teacher thinks less likely, which have the finest steps.
    """
    side = ops.sign(0.4999999 - soft)  # 1 where that is the presence; never 0
    scale = side * (1.0 / temperature)
    v = ops.maximum(scale * ops.log(soft / (1.0 - soft)), -FAR)  # 0 or below, but for a rounding around 0.5
    z = scale * log_odds
    q, p = ops.sigmoid(v), ops.sigmoid(z)
    # log((1 - q) / (1 - p)), of which the second is exp(-z) times p where the student likes this side better
    rarer = ops.minimum(p, 1.0 - p)
    log_ratio = ops.maximum(z, 0.0) + ops.log1p((rarer - q) / (1.0 - rarer))
    return log_ratio - q * (z - v), side * (p - q)


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
    Returns: (batch,) float32, at least 0 up to rounding, times T². A row without any mass gets some
      finite number: give it no weight.
    """
    x = ops.stop_gradient(student)
    v, q = _softened(ops, soft, temperature)
    if from_logits:
        z = ops.where(covered, x, -FAR)
        z = (z - _top(ops, z)) * (1.0 / temperature)  # the largest first: what a large one adds to all would cost steps
        p, far = ops.softmax(z), _top(ops, v)  # of z the largest is 0
    else:
        x = ops.maximum(x, TINY)
        z, p = _softened(ops, x * ops.cast(covered, "float32"), temperature)
        far = _top(ops, v) - _top(ops, z)
    # Where both are near 1 their difference is that of what they leave, which has finer steps.
    minor = q <= 0.5  # all but the class that the teacher is sure of
    others = ops.cast(minor, "float32")
    apart = p - q
    more = _sum(ops, others * apart)  # (batch, 1), of what they leave
    q_top, p_top = _top(ops, q), _top(ops, p)
    if temperature == 1.0:  # without a softmax, 0 in a row without any mass
        q_top, p_top = ops.maximum(q_top, LEAST_TOP), ops.maximum(p_top, LEAST_TOP)
    is_sure = _sum(ops, others * p) < 0.5
    log_ratio = ops.where(is_sure, ops.log1p(more / p_top), ops.log(q_top / p_top))
    slope = ops.where(minor, apart, -more)
    if not from_logits:
        slope = ops.where(x >= SLOPE_FLOOR, slope / x, 0.0)
    value = _sum(ops, q * (v - z - far)) + log_ratio
    return _scaled(ops, ops.squeeze(value, -1), slope, student, temperature)


def _sum(ops: Any, x: Any) -> Any:
    """(batch, classes) -> (batch, 1)."""
    return ops.sum(x, axis=-1, keepdims=True)


def _top(ops: Any, x: Any) -> Any:
    """(batch, classes) -> (batch, 1), the largest."""
    return ops.max(x, axis=-1, keepdims=True)


def _softened(ops: Any, p: Any, temperature: float) -> tuple[Any, Any]:
    """p -> log(p) / T, -FAR for 0, and its softmax; of a row of zeros something finite.

    -FAR comes after the product: a processor that fuses it with the softmax's difference would make inf of the two.
    """
    if temperature == 1.0:
        return ops.maximum(ops.log(p), -FAR), p * (1.0 / ops.maximum(_sum(ops, p), TINY))
    v = ops.maximum(ops.log(p) * (1.0 / temperature), -FAR)
    return v, ops.softmax(v)


def _scaled(ops: Any, value: Any, slope: Any, student: Any, temperature: float) -> Any:
    """T² times `value`, (batch,), to which any framework gives the derivative T times `slope`, (batch, classes)."""
    if hasattr(ops, "with_slope"):
        return ops.with_slope(value * temperature**2, temperature * slope, student)

    def attached(student: Any) -> Any:
        def gradient(*arguments: Any, upstream: Any = None) -> Any:
            (upstream,) = arguments if upstream is None else (upstream,)  # torch names it
            return ops.expand_dims(upstream * temperature, -1) * slope

        return value * temperature**2, gradient

    return ops.custom_gradient(attached)(student)
