"""Student losses with one weight per class, mixtures with noise, and outputs too coarse for a gradient."""

import functools
import logging
import types

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops
from loss_cases import RNG, complete_rows, pack
from loss_class_weights import Weighted, closed_over, ways, weighted, worst_of
from loss_grid import losses_and_gradients
from loss_reference import softmax

from softlabels.batches.mixup import mixup
from softlabels.loss.distillation import DistillationLoss, distillation_loss

FIVE = np.float32([0.5, 2.0, 1.0, 3.0, 0.25])


@pytest.fixture(autouse=True)
def same_rows_for_the_other_files():
    """Draws of this file change no rows of test_loss, which holds some to a bit in the same process."""
    state = RNG.bit_generator.state
    yield
    RNG.bit_generator.state = state


def sigmoid_loss(student_loss):
    return DistillationLoss(0.5, 1.0, student_loss, "sigmoid", True, None)


# ---- one weight per class ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["eager", "graph"])
@pytest.mark.parametrize("classes", [2, 3, 4, 7])
def test_one_weight_per_class_equals_the_reference_for_any_number_of_classes(classes, mode):
    for way, errors in worst_of(classes, mode).items():
        assert max(errors) <= 1.0, way


def test_a_positive_of_weight_3_pulls_three_times_as_hard_and_the_others_as_before():
    # Hard 1 at log-odds 0: the gradient of -w log p is -w (1 - p) = -w / 2, over five classes -w / 10.
    student, hard = np.zeros((1, 5), np.float32), np.ones((1, 5), np.float32)
    _, gradient = losses_and_gradients([sigmoid_loss(Weighted(FIVE))], hard, student, "eager")[0]
    np.testing.assert_allclose(gradient, [-FIVE / 10], rtol=1e-6)


def test_the_pure_function_finds_the_weights_too():
    hard, soft, student = complete_rows("sigmoid", classes=5)
    how = {"activation": "sigmoid", "temperature": 1.0, "alpha": 0.5, "student_loss": Weighted(FIVE)}
    expected = sigmoid_loss(Weighted(FIVE))(pack(hard, soft), student)
    np.testing.assert_array_equal(distillation_loss(hard, soft, student, **how), expected)
    with pytest.raises(ValueError, match="'weighted.*': expected a loss of .*with 7 classes"):
        distillation_loss(*complete_rows("sigmoid"), **how)


def test_a_partial_and_a_function_in_a_closure_are_looked_into():
    hard, soft, student = complete_rows("sigmoid", classes=5)
    inner = closed_over(FIVE)
    for given in (functools.partial(weighted, weights=ops.convert_to_tensor(FIVE)), lambda y, p: inner(y, p)):
        expected = sigmoid_loss(Weighted(FIVE))(pack(hard, soft), student)
        np.testing.assert_allclose(sigmoid_loss(given)(pack(hard, soft), student), expected, rtol=1e-6)


def test_the_loss_that_was_given_is_left_as_it_is_and_its_variable_is_read_at_each_call():
    hard, soft, student = complete_rows("sigmoid", classes=5)
    held = Weighted(keras.Variable(FIVE, trainable=False))
    loss, before = sigmoid_loss(held), dict(vars(held))
    step = tf.function(lambda y, p: loss(y, p))
    first = step(tf.constant(pack(hard, soft)), tf.constant(student)).numpy()
    assert vars(held) == before
    held.pos_weight.assign(2 * FIVE)
    expected = sigmoid_loss(Weighted(2 * FIVE))(pack(hard, soft), student)
    for got in (loss(pack(hard, soft), student), step(tf.constant(pack(hard, soft)), tf.constant(student))):
        np.testing.assert_allclose(got, expected, rtol=1e-6)
    assert (first != expected.numpy()).any()


@pytest.mark.parametrize("run", [lambda f: f, tf.function, tf.function(jit_compile=True)])
def test_weights_for_another_number_of_classes_are_refused_at_the_first_call(run):
    hard, soft, student = complete_rows("sigmoid")  # seven
    loss = sigmoid_loss(Weighted(FIVE))
    with pytest.raises(ValueError, match=r"(?s)'weighted.*': expected a loss of .*with 7 classes.*one weight for each"):
        run(lambda y, p: loss(y, p))(tf.constant(pack(hard, soft)), tf.constant(student))


def test_weights_for_another_number_of_classes_are_refused_by_fit():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(7)])
    model.compile("sgd", sigmoid_loss(Weighted(FIVE)))
    with pytest.raises(ValueError, match="'weighted.*': expected a loss of .*with 7 classes"):
        model.fit(np.zeros((4, 2), np.float32), np.zeros((4, 14), np.float32), verbose=0)


def hidden(weights):
    """A loss whose weights are where nobody looks, and meet (batch, classes, 1) without an error."""
    place = types.SimpleNamespace(weights=ops.convert_to_tensor(weights))
    return lambda y, p: ops.mean(place.weights * keras.ops.binary_crossentropy(y, p, from_logits=True), axis=-1)


def sliced(y, p):
    """Fits three classes, for whose weights are alike; not five."""
    weights = ops.convert_to_tensor(np.float32([1, 1, 1, 4, 2])[: p.shape[-1]])
    return ops.mean(weights * ops.binary_crossentropy(y, p, from_logits=True), axis=-1)


def test_weights_that_are_not_found_are_refused_rather_than_mixed_up():
    for weights in (FIVE, FIVE[:3]):
        with pytest.raises(ValueError, match="one weight (for each|per class)"):
            sigmoid_loss(hidden(weights))
    loss = sigmoid_loss(sliced)
    loss(*(np.zeros((2, 3), np.float32),) * 2)
    with pytest.raises(ValueError, match=r"'sliced': expected a loss that is the mean of its classes' losses"):
        loss(*(np.zeros((2, 5), np.float32),) * 2)


def test_a_weighted_loss_that_is_no_mean_over_classes_is_refused():
    with pytest.raises(ValueError, match="expected a loss that is the mean of its classes' losses"):
        sigmoid_loss(lambda y, p: ops.sum(FIVE * ops.binary_crossentropy(y, p, from_logits=True), axis=-1))
    with pytest.raises(ValueError, match="expected a loss that is the mean of its classes' losses"):
        sigmoid_loss(keras.losses.CategoricalFocalCrossentropy(FIVE.tolist(), from_logits=True))


@pytest.mark.parametrize("as_given", [list, np.asarray])
@pytest.mark.parametrize("classes", [2, 5])
def test_categorical_focal_loss_with_a_list_has_its_own_row_value_under_softmax(classes, as_given):
    hard, soft, student = complete_rows("softmax", classes=classes)
    weights = FIVE[:classes]
    ours = DistillationLoss(
        0.0, 1.0, keras.losses.CategoricalFocalCrossentropy(as_given(weights), from_logits=True), "softmax", True, None
    )
    # Keras: alpha (1 - p)^2 (-y log p), summed.
    p = softmax(student.astype(np.float64))
    expected = (weights * hard * (1 - p) ** 2 * -np.log(p)).sum(axis=1)
    np.testing.assert_allclose(ours(pack(hard, soft), student), expected, rtol=1e-5, atol=1e-9)
    with pytest.raises(ValueError, match="with 7 classes"):
        ours(*(np.zeros((2, 7), np.float32),) * 2)


@pytest.mark.parametrize("way", ["an attribute", "a list", "focal, list", "focal, array"])
def test_weights_survive_saving_as_lists(tmp_path, way):
    student_loss, _ = ways(7)[way]
    hard, soft, _ = complete_rows("sigmoid", rows=8)
    x = RNG.normal(size=(8, 2)).astype(np.float32)
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(7)])
    model.compile("sgd", DistillationLoss(0.5, 1.0, student_loss, "sigmoid", True))
    model.fit(x, pack(hard, soft), verbose=0)
    model.save(tmp_path / "student.keras")
    loaded = keras.models.load_model(tmp_path / "student.keras")
    assert type(loaded.loss.student_loss) is type(student_loss)
    assert loaded.loss.get_config() == model.loss.get_config()
    expected = model.evaluate(x, pack(hard, soft), verbose=0)
    assert loaded.evaluate(x, pack(hard, soft), verbose=0) == pytest.approx(expected, rel=1e-6)


# ---- mixtures with noise under softmax -------------------------------------------------------------------------------


def softmax_rows(y, student, alpha=0.4, **choices):
    loss = DistillationLoss(alpha, 1.0, None, "softmax", True, None, **choices)
    return losses_and_gradients([loss], np.float32(y), np.float32(student), "eager")[0]


@pytest.mark.parametrize("share", [1e-4, 0.3, 0.5, 0.9])
@pytest.mark.parametrize("alpha", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("trust", [None, [0.2, 1.0, 0.6]])
def test_a_bird_mixed_with_noise_is_the_mixture_of_both_rows_losses(share, alpha, trust):
    soft, student = [0.2, 0.5, 0.3], np.float32([[2.0, 0.0, -1.0]])
    y = np.float32([[1, 0, 0, *soft], [0, 0, 0, *soft]])  # the second is noise: not annotated, without a rest class
    _, mixed = mixup(np.zeros((2, 1), np.float32), y, share)
    pure = softmax_rows(y, np.repeat(student, 2, axis=0), alpha, trust=trust)
    got = softmax_rows(mixed[:1], student, alpha, trust=trust)
    for values, each in zip(got, pure, strict=True):
        np.testing.assert_allclose(values[0], share * each[0] + (1 - share) * each[1], rtol=1e-5, atol=1e-7)


def test_a_mixture_without_a_teacher_counts_by_its_share_and_two_birds_count_in_full():
    student = np.float32([[2.0, 0.0, -1.0]])
    bird, both = (softmax_rows([row], student)[0] for row in ([1, 0, 0], [0.5, 0.5, 0]))
    for share in (0.0, 0.25, 0.75):
        np.testing.assert_allclose(softmax_rows([[share, 0, 0]], student)[0], share * bird, rtol=1e-6)
    for row in ([1, 1, 0], [0.75, 0.75, 0]):
        np.testing.assert_allclose(softmax_rows([row], student)[0], both, rtol=1e-6)
    np.testing.assert_allclose(softmax_rows([[0.25, 0.25, 0]], student)[0], 0.5 * both, rtol=1e-6)


def test_label_smoothing_of_a_mixture_is_that_of_its_bird():
    smooth = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.2)
    loss = DistillationLoss(0.0, 1.0, smooth, "softmax", True, None)
    student = np.float32([[2.0, 0.0, -1.0]])
    bird, mixed = (float(loss(np.float32([row]), student)[0]) for row in ([0, 1, 0], [0, 0.3, 0]))
    assert mixed == pytest.approx(0.3 * bird, rel=1e-6)


def test_the_rounding_of_a_sum_of_one_takes_nothing_from_it():
    student = np.float32([[2.0, 0.0, -1.0]])
    row = np.float32([[0.6, 0.4 - 2**-24, 0]])
    plain = keras.losses.CategoricalCrossentropy(from_logits=True, reduction=None)
    np.testing.assert_array_equal(
        DistillationLoss(0.5, 1.0, None, "softmax", True, None)(row, student), plain(row, student)
    )


# ---- outputs too coarse for a gradient -------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
def test_half_precision_probabilities_are_warned_of_once(caplog, activation, dtype):
    loss, logits = (DistillationLoss(0.5, 1.0, None, activation, from_logits) for from_logits in (False, True))
    outputs = tf.cast([[0.25, 0.75]], dtype)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            logits(np.float32([[1, 0, 0.5, 0.5]]), outputs)
            loss(np.float32([[1, 0, 0.5, 0.5]]), tf.cast(outputs, "float32"))
        assert caplog.messages == []
        for _ in range(2):
            loss(np.float32([[1, 0, 0.5, 0.5]]), outputs)
    (message,) = caplog.messages
    assert f"expected logits or a float32 output; got probabilities in {dtype}" in message


def gradient_of_the_bias(output_dtype, from_logits):
    """A student in mixed precision that is sure of a bird which is not there, trained by fit: its bias' change."""
    layers = [keras.Input((1,)), keras.layers.Dense(1, dtype=keras.DTypePolicy("mixed_float16"))]
    if not from_logits:
        layers.append(keras.layers.Activation("sigmoid", dtype=output_dtype))
    model = keras.Sequential(layers)
    model.layers[0].set_weights([np.zeros((1, 1)), np.full(1, 12.0)])
    model.compile(keras.optimizers.SGD(1.0), DistillationLoss(0.5, 1.0, None, "sigmoid", from_logits))
    model.fit(np.ones((4, 1), np.float32), np.float32([[0, 0.01]] * 4), batch_size=4, verbose=0)
    return model.layers[0].get_weights()[1][0] - 12.0


def test_a_float16_sigmoid_gets_no_gradient_where_float32_and_logits_do(caplog):
    assert gradient_of_the_bias("float32", False) < -0.4
    assert gradient_of_the_bias(None, True) < -0.4
    assert caplog.messages == []
    assert gradient_of_the_bias("float16", False) == 0.0
    assert "got probabilities in float16" in caplog.messages[0]
