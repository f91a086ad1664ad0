"""The distillation loss: numbers and invariants. Arguments and files are in test_loss_arguments, the full grid over
all backends in test_loss_backends."""

import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from loss_cases import CLASSES, DTYPES, RNG, complete_rows, make_case, pack, reference_of
from loss_grid import losses_and_gradients, worst_of_case
from loss_reference import sigmoid, softmax

from softlabels.loss.distillation import DistillationLoss


def rows_and_gradient(loss, y, student):
    """(batch,) and (batch, classes) of an unreduced loss, eager."""
    return losses_and_gradients([loss], np.asarray(y, np.float32), np.asarray(student, np.float32), "eager")[0]


# ---- numbers -----------------------------------------------------------------------------------------------------


def test_one_sigmoid_row_equals_the_numbers_worked_by_hand():
    # p = sigmoid(0) = 0.5, hard 1, soft 0.8, T = 1: hard term log 2 = 0.693147;
    # KL(0.8 || 0.5) = 0.8 log 1.6 + 0.2 log 0.4 = 0.376003 - 0.183258 = 0.192745; half of each = 0.442946.
    loss = DistillationLoss(0.5, 1.0, activation="sigmoid", from_logits=True)
    assert float(loss(np.float32([[1.0, 0.8]]), np.float32([[0.0]]))) == pytest.approx(0.442946, abs=1e-6)


def test_one_softmax_row_equals_the_numbers_worked_by_hand():
    # Teacher (0.9, 0.1), T = 2: square roots 0.948683, 0.316228, so q = (0.75, 0.25); student logits equal: (0.5, 0.5).
    # KL = 0.75 log 1.5 + 0.25 log 0.5 = 0.304099 - 0.173287 = 0.130812; hard log 2; 0.25 log 2 + 0.75 * 4 * KL.
    loss = DistillationLoss(0.75, 2.0, from_logits=True)
    expected = 0.25 * 0.693147 + 0.75 * 4 * 0.130812
    assert float(loss(np.float32([[1, 0, 0.9, 0.1]]), np.float32([[3.0, 3.0]]))) == pytest.approx(expected, abs=3e-6)


@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
@pytest.mark.parametrize("from_logits", [True, False])
def test_the_reference_has_the_gradient_of_its_own_loss(activation, from_logits):
    hard, soft, student, trust = make_case(activation, 10, from_logits=from_logits)
    student = student.astype(np.float64)
    step = 1e-6 * (1.0 if from_logits else student)
    up, down = (
        reference_of(
            activation,
            hard,
            soft,
            student + sign * step * np.eye(10)[3],
            trust,
            alpha=0.6,
            temperature=3.0,
            from_logits=from_logits,
        ).loss
        for sign in (1, -1)
    )
    step = step if from_logits else step[:, 3]
    slope = reference_of(
        activation, hard, soft, student, trust, alpha=0.6, temperature=3.0, from_logits=from_logits
    ).gradient
    np.testing.assert_allclose((up - down) / (2 * step), slope[:, 3], rtol=2e-4, atol=1e-8)


@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
@pytest.mark.parametrize("classes", CLASSES)
@pytest.mark.parametrize("from_logits", [True, False])
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_eager_loss_equals_the_reference_at_every_temperature(activation, classes, from_logits, dtype):
    loss_error, gradient_error = worst_of_case(activation, classes, from_logits, dtype, "eager")
    assert loss_error <= 1.0
    assert gradient_error <= 1.0


@pytest.mark.parametrize("mode", ["graph", "xla"])
@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
@pytest.mark.parametrize(
    ("classes", "from_logits", "dtype"),
    [(6522, True, "float32"), (10, False, "float32"), (2, True, "bfloat16"), (400, False, "float16")],
)
def test_the_compiled_loss_equals_the_reference_at_every_temperature(activation, classes, from_logits, dtype, mode):
    """One compilation holds all temperatures; the rest of the grid runs with the marker `backends`."""
    loss_error, gradient_error = worst_of_case(activation, classes, from_logits, dtype, mode)
    assert loss_error <= 1.0
    assert gradient_error <= 1.0


@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
@pytest.mark.parametrize("classes", [2, 3, 10])
@pytest.mark.parametrize("from_logits", [True, False])
def test_the_soft_half_holds_its_bound_on_rows_that_nearly_match_too(activation, classes, from_logits):
    """4,000 rows of the soft half alone, half of them close to their teacher.

    Gradient: where both sides nearly agree it is a small difference of two float32 probabilities, so four units of
    these are allowed on top; no float32 result can promise 1e-5 of a difference that is itself rounding.
    """
    rng = np.random.default_rng([classes, from_logits])
    squash = sigmoid if activation == "sigmoid" else softmax
    teacher = rng.normal(-1, 4, (4000, classes))
    student = np.where(
        np.arange(4000)[:, None] % 2, teacher + rng.normal(0, 0.1, teacher.shape), rng.normal(-1, 4, teacher.shape)
    )
    soft = squash(teacher).astype(np.float32)
    student = (student if from_logits else squash(student)).astype(np.float32)
    hard = np.full_like(soft, np.nan)
    for temperature in (0.5, 1.0, 2.0, 20.0):
        loss = DistillationLoss(1.0, temperature, None, activation, from_logits, None)
        rows, gradient = rows_and_gradient(loss, pack(hard, soft), student)
        expected = reference_of(
            activation,
            hard,
            soft,
            student,
            np.ones(classes),
            alpha=1.0,
            temperature=temperature,
            from_logits=from_logits,
        )
        allowed = 1e-6 * (np.abs(expected.loss) + temperature**2 * expected.entropy) + 1e-15  # float64's own error
        assert (np.abs(rows - expected.loss) <= allowed).all()
        unit = temperature * slope_of_log_odds(student, activation, from_logits) * 2.0**-24
        error = np.abs(gradient - expected.gradient)
        assert (error <= 1e-5 * np.abs(expected.gradient).max(-1, keepdims=True) + 4 * unit).all()


def slope_of_log_odds(student, activation, from_logits):
    """What a difference of probabilities is multiplied by on its way into the gradient, without T."""
    student = student.astype(np.float64)
    mean_over = student.shape[-1] if activation == "sigmoid" else 1
    divisor = student * (1.0 - student) if activation == "sigmoid" else student
    return (1.0 if from_logits else 1.0 / np.where(divisor > 0, divisor, np.inf)) / mean_over


# ---- invariants --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_a_student_that_matches_its_teacher_has_no_soft_loss(activation, temperature):
    _, _, logits = complete_rows(activation)
    soft = sigmoid(logits.astype(float)) if activation == "sigmoid" else softmax(logits.astype(float))
    loss = DistillationLoss(1.0, temperature, None, activation, True, None)
    rows, gradient = rows_and_gradient(loss, pack(np.zeros_like(soft), soft), logits)
    assert np.abs(rows).max() <= 1e-6 * temperature**2
    assert np.abs(gradient).max() <= 1e-6 * temperature


def test_adding_a_constant_to_softmax_logits_changes_nothing():
    hard, soft, logits = complete_rows("softmax")
    loss = DistillationLoss(0.5, 3.0, from_logits=True, reduction=None)
    shifted = (logits.astype(np.float64) + 16.0).astype(np.float32)
    logits = shifted - np.float32(16.0)  # so that both are exact
    for one, other in zip(
        rows_and_gradient(loss, pack(hard, soft), logits),
        rows_and_gradient(loss, pack(hard, soft), shifted),
        strict=True,
    ):
        np.testing.assert_allclose(one, other, atol=1e-6)


@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
def test_the_gradient_norm_is_flat_in_temperature_on_near_uniform_logits(activation):
    rng = np.random.default_rng(3)
    teacher, student = rng.normal(0, 0.05, (2, 16, 50))
    soft = sigmoid(teacher) if activation == "sigmoid" else softmax(teacher)
    norms = [
        np.linalg.norm(
            rows_and_gradient(
                DistillationLoss(1.0, temperature, None, activation, True, None),
                pack(np.zeros((16, 50)), soft),
                student,
            )[1]
        )
        for temperature in (1.0, 2.0, 5.0, 20.0)
    ]
    assert max(norms) / min(norms) <= 1.05


@pytest.mark.parametrize("mode", ["eager", "graph", "xla"])
@pytest.mark.parametrize("from_logits", [True, False])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
def test_alpha_0_equals_the_hard_loss_of_keras_bit_for_bit(activation, smoothing, from_logits, mode):
    hard, soft, student = complete_rows(activation)
    student = student if from_logits else (tf.sigmoid if activation == "sigmoid" else tf.nn.softmax)(student).numpy()
    kind = keras.losses.BinaryCrossentropy if activation == "sigmoid" else keras.losses.CategoricalCrossentropy
    plain = kind(from_logits=from_logits, label_smoothing=smoothing, reduction=None)
    ours = DistillationLoss(0.0, 3.0, plain, activation, from_logits, None)
    wrap = {"eager": lambda f: f, "graph": tf.function, "xla": tf.function(jit_compile=True)}[mode]
    expected = wrap(lambda y, p: plain(y, p))(tf.constant(hard), tf.constant(student)).numpy()
    packed = wrap(lambda y, p: ours(y, p))(tf.constant(pack(hard, soft)), tf.constant(student)).numpy()
    alone = wrap(lambda y, p: ours(y, p))(tf.constant(hard), tf.constant(student)).numpy()
    if mode == "xla" and smoothing:  # XLA fuses the smoothing's product and sum or not, one float32 step apart
        np.testing.assert_allclose(packed, expected, rtol=2.4e-7)
    else:
        np.testing.assert_array_equal(packed, expected)
        np.testing.assert_array_equal(alone, expected)


def test_alpha_0_keeps_the_logits_that_keras_remembers_behind_a_sigmoid():
    logits = tf.constant([[20.0, -200.0, 3.0]])
    outputs = keras.activations.sigmoid(logits)  # 1.0, 0.0, 0.95: Keras reads the logits instead
    hard = np.float32([[0, 1, 1]])
    plain = keras.losses.BinaryCrossentropy()(hard, outputs).numpy()
    assert plain > 70
    ours = DistillationLoss(0.0, 1.0, None, "sigmoid")(pack(hard, np.float32([[0.2, 0.3, 0.4]])), outputs)
    assert ours.numpy() == plain


@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
def test_alpha_1_does_not_depend_on_the_hard_half(activation):
    hard, soft, student = complete_rows(activation)
    loss = DistillationLoss(1.0, 2.0, None, activation, True, None)
    one = rows_and_gradient(loss, pack(hard, soft), student)
    other = rows_and_gradient(loss, pack(np.roll(hard, 1, axis=1), soft), student)
    np.testing.assert_array_equal(one[0], other[0])
    np.testing.assert_array_equal(one[1], other[1])


@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
def test_a_missing_half_gives_the_other_one_in_full(activation):
    hard, soft, student = complete_rows(activation)
    nothing = np.full_like(hard, np.nan)

    def rows(alpha, *halves):
        return rows_and_gradient(DistillationLoss(alpha, 2.0, None, activation, True, None), pack(*halves), student)

    for got, full in (
        (rows(0.3, hard, nothing), rows(0.0, hard, soft)),
        (rows(0.3, nothing, soft), rows(1.0, hard, soft)),
    ):
        np.testing.assert_allclose(got[0], full[0], rtol=1e-6)
        np.testing.assert_allclose(got[1], full[1], rtol=1e-6, atol=1e-9)
    for zeros in rows(0.3, nothing, nothing):
        np.testing.assert_array_equal(zeros, 0.0)


def test_rows_with_nothing_still_count_in_the_mean_of_keras():
    hard, soft, student = complete_rows("sigmoid", rows=4)
    loss = DistillationLoss(0.5, 1.0, None, "sigmoid", True)
    full = float(loss(pack(hard, soft), student))
    nothing = np.full((4, 14), np.nan, np.float32)
    assert float(
        loss(np.concatenate([pack(hard, soft), nothing]), np.concatenate([student, student]))
    ) == pytest.approx(full / 2, rel=1e-6)


@pytest.mark.parametrize("alpha", [0.0, 0.25, 1.0])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_sigmoid_at_temperature_1_has_the_gradient_of_bce_on_the_blend(alpha, smoothing):
    hard, soft, student = complete_rows("sigmoid")
    student_loss = keras.losses.BinaryCrossentropy(from_logits=True, label_smoothing=smoothing)
    _, gradient = rows_and_gradient(
        DistillationLoss(alpha, 1.0, student_loss, "sigmoid", True, None), pack(hard, soft), student
    )
    blend = (1 - alpha) * (hard * (1 - smoothing) + 0.5 * smoothing) + alpha * soft
    np.testing.assert_allclose(gradient, (sigmoid(student.astype(float)) - blend) / 7, atol=1e-6 / 7)


def test_masks_and_trust_equal_a_loop_over_single_classes():
    hard, soft, student, trust = make_case("sigmoid", 10, from_logits=True)
    rows, _ = rows_and_gradient(
        DistillationLoss(0.6, 3.0, None, "sigmoid", True, None, trust=trust), pack(hard, soft), student
    )
    total = np.zeros(len(rows))
    for c in range(10):
        for row in range(len(rows)):
            h, q, z = float(hard[row, c]), float(soft[row, c]), float(student[row, c])
            single = DistillationLoss(0.6 * trust[c], 3.0, None, "sigmoid", True)
            value = float(single(np.float32([[h, q]]), np.float32([[z]])))
            total[row] += value * (trust[c] if np.isnan(h) and not np.isnan(q) else 1.0)
    np.testing.assert_allclose(rows, total / 10, rtol=2e-6)


def test_softmax_trust_is_the_teachers_own_mean_of_it():
    hard, soft, student = complete_rows("softmax")
    trust = RNG.random(7)
    rows, _ = rows_and_gradient(
        DistillationLoss(0.8, 2.0, from_logits=True, reduction=None, trust=trust), pack(hard, soft), student
    )
    belief = (soft * trust).sum(1) / soft.sum(1)
    for row in range(len(rows)):
        alone = DistillationLoss(0.8 * belief[row], 2.0, from_logits=True)
        assert rows[row] == pytest.approx(
            float(alone(pack(hard, soft)[row : row + 1], student[row : row + 1])), rel=2e-6
        )


@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
def test_doubling_the_weight_of_one_row_changes_the_gradient_of_that_row_only(activation):
    hard, soft, student = complete_rows(activation, rows=4)
    loss = DistillationLoss(0.5, 2.0, None, activation, True)

    def gradient(weights):
        outputs = tf.constant(student)
        with tf.GradientTape() as tape:
            tape.watch(outputs)
            value = loss(pack(hard, soft), outputs, sample_weight=np.float32(weights))
        return tape.gradient(value, outputs).numpy()

    once, twice = gradient([1, 1, 1, 1]), gradient([1, 2, 1, 1])
    np.testing.assert_array_equal(once[[0, 2, 3]], twice[[0, 2, 3]])
    np.testing.assert_allclose(twice[1], 2 * once[1], rtol=1e-6)


def test_two_replicas_train_like_one():
    """In a process of its own: logical devices must be set up before TensorFlow starts."""
    folder = Path(__file__).parent
    environment = {
        **os.environ,
        "KERAS_BACKEND": "tensorflow",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "PYTHONPATH": os.pathsep.join([str(folder.parent), os.environ.get("PYTHONPATH", "")]),
    }
    done = subprocess.run(
        [sys.executable, str(folder / "loss_replicas.py")], env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-4000:]
    report = json.loads(done.stdout.splitlines()[-1])
    assert report["replicas"] == 2
    assert report["moved"] > 0.01
    assert report["difference"] <= 1e-6


# ---- softmax rows --------------------------------------------------------------------------------------------------


def test_a_quiet_sigmoid_row_does_not_become_a_bird():
    student = np.float32([[2.0, 0.0, -1.0]])
    quiet = np.float32([[1, 0, 0, 0.01, 0.002, 0.001]])
    loss = DistillationLoss(0.9, 3.0, from_logits=True)
    assert float(loss(quiet, student)) == float(loss(quiet[:, :3], student))
    assert float(DistillationLoss(0.9, 3.0, from_logits=True, min_mass=0.001)(quiet, student)) != float(
        loss(quiet[:, :3], student)
    )


def test_a_soft_row_with_one_covered_class_is_missing():
    student = np.float32([[2.0, 0.0, -1.0]])
    row = np.float32([[1, 0, 0, 0.9, np.nan, np.nan]])
    loss = DistillationLoss(0.9, 3.0, from_logits=True)
    assert float(loss(row, student)) == float(loss(row[:, :3], student))


def test_hard_rows_are_divided_by_their_sum_and_noise_is_not_annotated():
    student = np.float32([[2.0, 0.0, -1.0]])
    loss = DistillationLoss(0.4, 1.0, from_logits=True)
    soft = [0.2, 0.5, 0.3]
    assert float(loss(np.float32([[1, 1, 0, *soft]]), student)) == pytest.approx(
        float(loss(np.float32([[0.5, 0.5, 0, *soft]]), student)), rel=1e-6
    )
    assert float(loss(np.float32([[0, 0, 0, *soft]]), student)) == float(
        loss(np.float32([[np.nan, np.nan, np.nan, *soft]]), student)
    )


def test_a_certain_teacher_keeps_its_mass_at_every_temperature():
    # The published epsilon leaves 3 % of it at C = 6,522 and T = 3. With all of it, L = T^2 log C on equal logits.
    soft = np.eye(1, 6522, dtype=np.float32)
    for temperature in (3.0, 20.0):
        loss = DistillationLoss(1.0, temperature, from_logits=True)
        value = float(loss(pack(soft, soft), np.zeros((1, 6522), np.float32)))
        assert value == pytest.approx(temperature**2 * np.log(6522), rel=1e-6)
