"""Random rows for the loss tests and the bound they are held to; shared by the tests of all backends.

Rows look like training: confident and unsure teachers, exact zeros and ones, classes the teacher lacks, rows nobody
annotated, rows the teacher is silent on. Everything is rounded to what the loss sees before the reference reads it.
"""

import ml_dtypes
import numpy as np
from loss_reference import Reference, sigmoid, sigmoid_reference, softmax, softmax_reference

TEMPERATURES = (0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 20.0)
CLASSES = (2, 10, 400, 6522)
DTYPES = {"float32": np.float32, "float16": np.float16, "bfloat16": ml_dtypes.bfloat16}
ROWS = 8
ALPHA = 0.6


def make_case(activation, classes, *, from_logits, dtype="float32", seed=0):
    """-> hard, soft, student, trust: (8, classes) float32 three times, student as `dtype`, and (classes,)."""
    rng = np.random.default_rng([seed, classes, activation == "sigmoid", from_logits])
    student = rng.normal(-1.0, 3.0, (ROWS, classes))
    teacher = rng.normal(-2.0, 3.0, (ROWS, classes))
    squash = sigmoid if activation == "sigmoid" else softmax
    student = student if from_logits else squash(student)
    soft = squash(teacher).astype(np.float32)
    hard = np.eye(classes, dtype=np.float32)[rng.integers(classes, size=ROWS)]
    if activation == "sigmoid":
        hard = np.maximum(hard, (rng.random((ROWS, classes)) < 0.1).astype(np.float32))
        soft[2, rng.random(classes) < 0.3] = 0.0
        soft[3, 0] = 1.0
        hard[5, rng.random(classes) < 0.5] = np.nan  # annotated class by class
    else:
        soft[2] = np.eye(classes, dtype=np.float32)[0]  # a certain teacher
        hard[3, :2] = 1.0  # two classes: divided by their sum
        hard[5] = 0.0  # noise
        hard[7] *= 0.6  # mixed with noise
    hard[4] = np.nan
    soft[1, rng.random(classes) < 0.4] = np.nan  # classes the teacher lacks
    soft[6] = np.nan
    trust = rng.random(classes).astype(np.float32)
    return hard, soft, student.astype(DTYPES[dtype]), trust


def reference_of(activation, hard, soft, student, trust, **arguments) -> Reference:
    """The float64 reference on the very values the loss was given."""
    wide = [np.asarray(values, np.float64) for values in (hard, soft, student)]
    function = sigmoid_reference if activation == "sigmoid" else softmax_reference
    return function(*wide, trust=np.asarray(trust, np.float64), **arguments)


def excess(loss, gradient, expected: Reference, temperature, dtype="float32"):
    """-> (loss error, gradient error), each divided by what is allowed: at most 1 is a pass.

    |dL| <= 1e-6 (|L| + T^2 H); gradient within 1e-5 of the row's largest. A gradient that the framework hands back
    in float16 or bfloat16 has been rounded to it, so half a unit of that type is added, and no more.
    """
    allowed = 1e-6 * (np.abs(expected.loss) + temperature**2 * expected.entropy)
    loss_error = np.abs(np.asarray(loss, np.float64) - expected.loss)
    gradient = np.asarray(gradient, np.float64)
    rows = np.abs(expected.gradient).max(axis=-1, keepdims=True)
    slack = 1e-5 * rows + half_unit(expected.gradient, dtype)
    largest = float(ml_dtypes.finfo(DTYPES[dtype]).max)  # float16 cannot hold more than 65504 in any case
    gradient_error = np.abs(np.clip(gradient, -largest, largest) - np.clip(expected.gradient, -largest, largest))
    return ratio(loss_error, allowed), ratio(gradient_error, slack)


def ratio(error, allowed):
    """The largest error / allowed; 0 / 0 is 0."""
    if not np.isfinite(error).all():
        return np.inf
    return float(np.max(np.divide(error, allowed, out=np.where(error > 0, np.inf, 0.0), where=allowed > 0)))


def half_unit(values, dtype):
    """Half the distance between neighbours of `values` in a low-precision type; 0 for float32."""
    if dtype == "float32":
        return 0.0
    info = ml_dtypes.finfo(DTYPES[dtype])
    exponent = np.floor(np.log2(np.maximum(np.abs(values), float(info.tiny))))
    return 0.5 * 2.0 ** (exponent - info.nmant)


RNG = np.random.default_rng(7)


def pack(hard, soft):
    """[hard | soft] as float32."""
    return np.concatenate([hard, soft], axis=1).astype(np.float32)


def complete_rows(activation, rows=16, classes=7):
    """hard, soft, student logits without anything missing."""
    soft = RNG.normal(-1, 2, (rows, classes))
    soft = (sigmoid(soft) if activation == "sigmoid" else softmax(soft)).astype(np.float32)
    hard = np.eye(classes, dtype=np.float32)[RNG.integers(classes, size=rows)]
    return hard, soft, RNG.normal(-1, 2, (rows, classes)).astype(np.float32)
