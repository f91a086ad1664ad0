"""At least 10,000 random rows, the extreme ones on purpose: no loss or gradient that is not finite."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from loss_reference import sigmoid, softmax

from softlabels.loss.distillation import DistillationLoss

ROWS, CLASSES, EXAMPLES = 64, 5, 45  # per test; 4 tests: 11,520 rows
DENORMAL = float(np.float32(1e-40))
PROBABILITIES = [0.0, 1.0, DENORMAL, 2.0**-126, 2.0**-116, 1e-30, 1e-7, 0.5, 1.0 - 2.0**-24]
LOGITS = [0.0, -0.0, 1e4, -1e4, 88.0, -88.0, 104.0, 1e-40, 17.0]
seen = {"rows": 0}


def salted(rng, values, extremes, share):
    """`values` with a share of its entries replaced by extreme ones."""
    chosen = rng.random(values.shape) < share
    return np.where(chosen, rng.choice(extremes, values.shape), values)


def make_rows(seed, activation, from_logits):
    """-> packed targets (64, 10) and student outputs (64, 5), float32, with every awkward thing in them."""
    rng = np.random.default_rng(seed)
    squash = sigmoid if activation == "sigmoid" else softmax
    student = salted(rng, rng.normal(0, 10 ** rng.uniform(-2, 4), (ROWS, CLASSES)), LOGITS, rng.random())
    student = np.clip(student, -1e4, 1e4)
    soft = squash(salted(rng, rng.normal(0, 5, (ROWS, CLASSES)), LOGITS, 0.2)).astype(np.float32)
    hard = (rng.random((ROWS, CLASSES)) < 0.3).astype(np.float32)
    if activation == "sigmoid":
        soft = salted(rng, soft, PROBABILITIES, 0.3).astype(np.float32)
        student = student if from_logits else salted(rng, sigmoid(student), PROBABILITIES, rng.random())
    elif not from_logits:
        student = softmax(student)  # a row of zeros is no output of a softmax, but single zeros are
    hard[rng.random((ROWS, CLASSES)) < 0.05] = np.nan
    hard[rng.random(ROWS) < 0.2], hard[:, rng.random(CLASSES) < 0.05] = np.nan, np.nan
    soft[rng.random(ROWS) < 0.2], soft[:, rng.random(CLASSES) < 0.2] = np.nan, np.nan
    soft[rng.random((ROWS, CLASSES)) < 0.1] = np.nan
    return np.concatenate([hard, soft], 1).astype(np.float32), student.astype(np.float32)


def compiled(activation, from_logits):
    """One compiled function (y, outputs) -> [(rows, gradient) for T in 0.5, 1, 20]."""
    losses = [DistillationLoss(0.5, t, None, activation, from_logits, None, min_mass=0.0) for t in (0.5, 1.0, 20.0)]

    @tf.function
    def run(y, outputs):
        results = []
        for loss in losses:
            with tf.GradientTape() as tape:
                tape.watch(outputs)
                rows = loss(y, outputs)
            results.append((rows, tape.gradient(rows, outputs)))
        return results

    return run


@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
@pytest.mark.parametrize("from_logits", [True, False])
def test_extreme_rows_have_a_finite_loss_and_gradient(activation, from_logits):
    run = compiled(activation, from_logits)

    @settings(max_examples=EXAMPLES, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(seed=st.integers(0, 2**32 - 1))
    def check(seed):
        y, outputs = make_rows(seed, activation, from_logits)
        for rows, gradient in run(tf.constant(y), tf.constant(outputs)):
            assert np.isfinite(rows.numpy()).all(), outputs[~np.isfinite(rows.numpy())]
            assert np.isfinite(gradient.numpy()).all(), outputs[~np.isfinite(gradient.numpy()).all(1)]
            assert (rows.numpy() >= -1e-3).all()  # 1e-6 T^2 H at T = 20, H about log 5
        seen["rows"] += len(y)

    check()
    assert seen["rows"] >= ROWS * EXAMPLES


def test_the_fuzz_saw_at_least_ten_thousand_rows():
    """Runs after the tests above; alone, it has nothing to count."""
    if not seen["rows"]:
        pytest.skip("the fuzz itself was not selected")
    assert seen["rows"] >= 10_000 or seen["rows"] % (ROWS * EXAMPLES) == 0
