"""The distillation loss: arguments, errors, student losses, training, files. The numbers are in test_loss."""

import types

import keras
import numpy as np
import pytest
import tensorflow as tf
from loss_cases import RNG, complete_rows, pack

from softlabels.loss.distillation import DistillationLoss, distillation_loss


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan"), float("inf")])
def test_a_temperature_that_is_not_finite_and_positive_is_refused(temperature):
    with pytest.raises(ValueError, match="finite temperature > 0; got"):
        DistillationLoss(0.5, temperature)


@pytest.mark.parametrize("alpha", [-0.1, 1.1, float("nan")])
def test_an_alpha_outside_0_to_1_is_refused_at_construction_and_later(alpha):
    with pytest.raises(ValueError, match=r"alpha in \[0, 1\]; got"):
        DistillationLoss(alpha)
    with pytest.raises(ValueError, match=r"alpha in \[0, 1\]; got"):
        DistillationLoss().alpha = alpha
    with pytest.raises(ValueError, match=r"distillation_loss: expected alpha"):
        distillation_loss([[1.0]], [[0.5]], [[0.0]], activation="sigmoid", temperature=1.0, alpha=alpha)


def test_an_unknown_activation_a_bad_trust_and_a_bad_mass_are_refused():
    with pytest.raises(ValueError, match="activation 'sigmoid' or 'softmax'; got 'relu'"):
        DistillationLoss(activation="relu")
    with pytest.raises(ValueError, match="trust as one number in"):
        DistillationLoss(trust=[0.5, float("nan")])
    with pytest.raises(ValueError, match="min_mass in"):
        DistillationLoss(min_mass=2.0)
    with pytest.raises(ValueError, match="trust for the student's 3 classes; got 2"):
        DistillationLoss(trust=[0.5, 1.0])(np.zeros((1, 6), np.float32), np.full((1, 3), 0.3, np.float32))


@pytest.mark.parametrize("width", [1, 2, 4, 5, 7, 9])
def test_targets_neither_c_nor_2c_wide_are_refused_naming_both_shapes(width):
    with pytest.raises(ValueError, match=rf"y_true \(2, {width}\).* and y_pred \(2, 3\)"):
        DistillationLoss()(np.zeros((2, width), np.float32), np.full((2, 3), 0.3, np.float32))


@pytest.mark.parametrize(
    ("y_true", "y_pred", "message"),
    [
        (np.zeros((2, 4, 6)), np.zeros((2, 4, 3)), "rank 2"),
        (np.zeros(6), np.zeros(3), "rank 2"),
        (np.zeros((2, 6), complex), np.zeros((2, 3)), "real numbers"),
        (np.full((2, 6), "a"), np.zeros((2, 3)), "real numbers"),
        (np.zeros((1, 6)), np.zeros((2, 3)), "one target row per output row"),
    ],
)
def test_targets_of_a_wrong_rank_dtype_or_batch_are_refused(y_true, y_pred, message):
    with pytest.raises(ValueError, match=message):
        DistillationLoss()(y_true, y_pred)


@pytest.mark.parametrize("wrap", [np.asarray, tf.constant])
def test_soft_values_no_teacher_can_have_said_are_refused_in_eager_mode(wrap):
    student = np.full((2, 2), 0.5, np.float32)
    with pytest.raises(ValueError, match=r"soft half in \[0, 1\].*got 3.5 at row 1, class 0"):
        DistillationLoss(activation="sigmoid")(wrap(np.float32([[1, 0, 0.5, 0.5], [1, 0, 3.5, 0.5]])), student)
    sigmoid_row = wrap(np.float32([[1, 0, 0.9, 0.9], [1, 0, 0.5, 0.5]]))
    with pytest.raises(ValueError, match="got 1.8 at row 0; a sigmoid teacher needs activation='sigmoid'"):
        DistillationLoss()(sigmoid_row, student)
    DistillationLoss(activation="sigmoid")(sigmoid_row, student)


# ---- student losses --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given",
    [
        "binary_crossentropy",
        "BinaryCrossentropy",
        keras.losses.binary_crossentropy,
        keras.losses.BinaryCrossentropy(from_logits=True, reduction="sum"),
        {"class_name": "BinaryCrossentropy", "config": {"from_logits": True}},
    ],
)
def test_every_way_to_name_binary_cross_entropy_gives_the_same_loss(given):
    hard, soft, student = complete_rows("sigmoid")
    same = DistillationLoss(0.5, 1.0, None, "sigmoid", True)(pack(hard, soft), student)
    other = DistillationLoss(0.5, 1.0, given, "sigmoid", True)(pack(hard, soft), student)
    assert float(other) == pytest.approx(float(same), rel=1e-6)


def test_another_class_wise_loss_gives_its_own_row_mean():
    hard, soft, student = complete_rows("sigmoid")
    focal = keras.losses.BinaryFocalCrossentropy(from_logits=True, reduction=None)
    got = DistillationLoss(0.0, 1.0, focal, "sigmoid", True, None)(pack(hard, soft), student)
    np.testing.assert_allclose(got, focal(hard, student), rtol=1e-6)


@pytest.mark.parametrize("given", ["categorical_crossentropy", "kl_divergence", "dice"])
def test_a_loss_that_is_no_mean_over_classes_is_refused_under_sigmoid(given):
    with pytest.raises(ValueError, match=r"student_loss '.*': expected"):
        DistillationLoss(0.5, 1.0, given, "sigmoid", True)


def test_an_object_that_disagrees_about_logits_is_refused():
    with pytest.raises(ValueError, match="from_logits=True, as the loss itself has; got BinaryCrossentropy with"):
        DistillationLoss(0.5, 1.0, keras.losses.BinaryCrossentropy(), "sigmoid", True)


# ---- building, training, files -----------------------------------------------------------------------------------


@pytest.mark.parametrize("trust", [None, np.array([1.0, 0.25])])
def test_for_labels_takes_activation_trust_and_temperature_from_the_labels(trust):
    labels = types.SimpleNamespace(activation="sigmoid", classes=["A_a", "B_b"], class_trust=trust)
    loss = DistillationLoss.for_labels(labels, from_logits=True)
    assert (loss.activation, loss.temperature, loss.alpha, loss.from_logits) == ("sigmoid", 1.0, 0.3, True)
    assert (loss.trust is None) == (trust is None)
    assert DistillationLoss.for_labels(labels, 0.25, 2.0).get_config()["temperature"] == 2.0
    labels.class_trust = np.ones(3)
    with pytest.raises(ValueError, match="one trust per class, 2; got 3"):
        DistillationLoss.for_labels(labels)


def test_the_pure_function_reads_lists_without_a_class():
    # As the class at alpha 0.5, T = 1, worked by hand above.
    rows = distillation_loss([[1.0]], [[0.8]], [[0.0]], activation="sigmoid", temperature=1.0, alpha=0.5)
    assert float(rows[0]) == pytest.approx(0.442946, abs=1e-6)


def test_alpha_changes_a_step_that_is_already_traced():
    hard, soft, student = complete_rows("sigmoid")
    loss = DistillationLoss(0.0, 2.0, None, "sigmoid", True)
    step = tf.function(lambda y, p: loss(y, p), jit_compile=True)
    y, student = tf.constant(pack(hard, soft)), tf.constant(student)
    before = float(step(y, student))
    loss.alpha = 0.7
    assert float(step(y, student)) == pytest.approx(float(loss(y, student)), rel=1e-6)
    assert float(step(y, student)) != before
    assert loss.get_config()["alpha"] == 0.7


def test_a_saved_model_loads_without_custom_objects_and_gives_the_same_loss(tmp_path):
    student_loss = keras.losses.BinaryCrossentropy(from_logits=True, label_smoothing=0.15)
    loss = DistillationLoss(0.3, 2.5, student_loss, "sigmoid", True, "sum", "mine", trust=[1.0, 0.5, 0.0], min_mass=0.2)
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
    model.compile("sgd", loss)
    x, y = RNG.normal(size=(8, 2)).astype(np.float32), RNG.random((8, 6)).astype(np.float32)
    model.fit(x, y, verbose=0)
    model.save(tmp_path / "student.keras")
    loaded = keras.models.load_model(tmp_path / "student.keras")
    assert type(loaded.loss) is DistillationLoss
    assert loaded.loss.get_config() == loss.get_config()
    assert loaded.loss.student_loss.label_smoothing == 0.15
    assert loaded.evaluate(x, y, verbose=0) == pytest.approx(model.evaluate(x, y, verbose=0), rel=1e-6)


def test_the_registered_name_is_not_that_of_keras_own_distillation_loss():
    assert keras.saving.get_registered_name(DistillationLoss) == "softlabels>DistillationLoss"
    assert not issubclass(DistillationLoss, keras.distillation.DistillationLoss)


def test_hard_validation_data_after_packed_training_data_gives_the_plain_loss():
    hard, soft, _ = complete_rows("sigmoid", rows=8)
    x = RNG.normal(size=(8, 3)).astype(np.float32)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(7)])
    model.compile(keras.optimizers.SGD(0.0), DistillationLoss(0.5, 2.0, None, "sigmoid", True))
    history = model.fit(x, pack(hard, soft), batch_size=8, verbose=0, validation_data=(x, hard)).history
    plain = float(keras.losses.BinaryCrossentropy(from_logits=True)(hard, model(x)))
    assert history["val_loss"][0] == pytest.approx(plain, rel=1e-6)
    packed = model.evaluate(x, pack(hard, soft), batch_size=8, verbose=0)  # TensorFlow forgets the width here
    assert packed == pytest.approx(history["loss"][0], rel=1e-6)
    for width in (6, 9, 21, 28):
        with pytest.raises(Exception, match="reshape|Reshape"):
            model.evaluate(x, np.zeros((8, width), np.float32), batch_size=8, verbose=0)


def test_a_float16_student_is_read_in_float32():
    hard, soft, student = complete_rows("softmax")
    loss = DistillationLoss(0.5, 3.0, from_logits=True)
    half = tf.constant(student.astype(np.float16))
    value = loss(pack(hard, soft), half)
    assert value.dtype == tf.float32
    assert float(value) == float(loss(pack(hard, soft), tf.cast(half, tf.float32)))
