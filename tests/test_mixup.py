"""Mixup: both rules, both halves, every library, inside `tf.data` too."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from softlabels.batches.mixup import mixup

NAN = np.nan
X = np.float32([[0.0, 4.0], [8.0, 8.0], [1.0, 3.0]])
# hard (2 classes), soft (2 classes): complete; teacher silent; not annotated and one class lacking
Y = np.float32([[1, 0, 0.8, 0.4], [0, 1, NAN, NAN], [NAN, NAN, 0.2, NAN]])
WRAPS = {"numpy": np.asarray, "tensorflow": tf.constant, "keras": keras.ops.convert_to_tensor}


@pytest.mark.parametrize("wrap", WRAPS.values(), ids=WRAPS)
def test_linear_mixup_mixes_both_halves_alike_and_keeps_what_is_missing(wrap):
    x, y = mixup(wrap(X), wrap(Y), 0.75, partner=np.array([1, 2, 0]))
    # 0.75 of a row, 0.25 of the next: 0.25 * 8 = 2, 0.75 * 4 + 2 = 5, ...
    np.testing.assert_allclose(np.asarray(x), [[2, 5], [6.25, 6.75], [0.75, 3.25]])
    # Partner 1 has no soft half, so row 0 has none; row 2 is not annotated and lacks one class.
    np.testing.assert_allclose(np.asarray(y), [[0.75, 0.25, NAN, NAN], [NAN] * 4, [NAN, NAN, 0.35, NAN]], rtol=1e-6)


@pytest.mark.parametrize("wrap", WRAPS.values(), ids=WRAPS)
def test_max_mixup_takes_the_larger_of_both_and_keeps_what_is_missing(wrap):
    x, y = mixup(wrap(X), wrap(Y), 0.75, rule="max", partner=np.array([1, 0, 0]))
    np.testing.assert_allclose(np.asarray(x), [[2, 5], [6, 7], [0.75, 3.25]])
    np.testing.assert_allclose(np.asarray(y), [[1, 1, NAN, NAN], [1, 1, NAN, NAN], [NAN, NAN, 0.8, NAN]], rtol=1e-6)


@pytest.mark.parametrize("rule", ["linear", "max"])
def test_an_example_with_no_share_takes_no_part(rule):
    _, y = mixup(X, Y, np.float32([1.0, 0.0, 1.0]), rule=rule, partner=np.array([1, 0, 0]))
    np.testing.assert_allclose(y, [[1, 0, 0.8, 0.4], [1, 0, 0.8, 0.4], [NAN, NAN, 0.2, NAN]], rtol=1e-6)


def test_without_a_partner_each_row_meets_the_next():
    x, _ = mixup(X, Y, 0.0)
    np.testing.assert_array_equal(x, X[[1, 2, 0]])


def test_features_of_any_rank_and_type_are_mixed():
    x = np.arange(24, dtype=np.float64).reshape(3, 2, 4)
    mixed, y = mixup(x, Y, np.float32([0.5, 0.5, 1.0]))
    assert mixed.dtype == np.float64
    assert y.dtype == np.float32
    np.testing.assert_allclose(mixed[0], (x[0] + x[1]) / 2)
    np.testing.assert_array_equal(mixed[2], x[2])


E = np.float16([[1, 2, 3], [4, 5, 6], [NAN, NAN, NAN]])  # the teacher's embeddings; the last row has none


@pytest.mark.parametrize("wrap", WRAPS.values(), ids=WRAPS)
@pytest.mark.parametrize("rule", ["linear", "max"])
@pytest.mark.parametrize("partner", [None, np.array([1, 2, 0])])
def test_the_embedding_of_a_mixture_is_not_known_and_that_of_one_example_is_its_own(wrap, rule, partner):
    weight = np.float32([1.0, 0.0, 0.5])  # alone; the partner alone, which has none; a mixture
    x, y = mixup(wrap(X), {"labels": wrap(Y), "embedding": wrap(E)}, weight, rule=rule, partner=partner)
    plain_x, plain_y = mixup(X, Y, weight, rule=rule, partner=partner)
    np.testing.assert_allclose(np.asarray(x), plain_x)
    np.testing.assert_allclose(np.asarray(y["labels"]), plain_y)
    assert np.asarray(y["embedding"]).dtype == np.float16
    np.testing.assert_array_equal(np.asarray(y["embedding"]), [[1, 2, 3], [NAN] * 3, [NAN] * 3])


def test_almost_alone_is_a_mixture_though_float16_does_not_tell():
    _, y = mixup(X, {"labels": Y, "embedding": E}, np.float32([0.99999, 1e-6, 1.0]))
    assert np.isnan(y["embedding"]).all()
    _, y = mixup(X, {"labels": Y, "embedding": E}, np.float32([0.0, 1.0, 0.0]))
    np.testing.assert_array_equal(y["embedding"], E[[1, 1, 0]])


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("rule", ["linear", "max"])
def test_compiled_mixup_drops_no_nan(rule, jit_compile):
    step = tf.function(lambda x, y: mixup(x, y, 0.75, rule=rule), jit_compile=jit_compile)
    for compiled, plain in zip(step(tf.constant(X), tf.constant(Y)), mixup(X, Y, 0.75, rule=rule), strict=True):
        np.testing.assert_allclose(compiled.numpy(), plain, rtol=1e-6)


def test_mixup_works_inside_tf_data_with_random_weights_and_a_last_short_batch():
    rows = tf.data.Dataset.from_tensor_slices((X, Y)).batch(2)
    mixed = list(rows.map(lambda x, y: mixup(x, y, tf.random.uniform([tf.shape(x)[0]], 0.5, 1.0), rule="max")))
    assert [tuple(y.shape) for _, y in mixed] == [(2, 4), (1, 4)]
    assert np.isnan(mixed[0][1].numpy()[0]).tolist() == [False, False, True, True]
    np.testing.assert_allclose(mixed[1][0].numpy(), X[2:])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rule": "mean"}, "rule 'linear' or 'max'; got 'mean'"),
        ({"weight": 1.5}, r"values 1.5 to 1.5"),
        ({"weight": np.float32([0.5, NAN, 0.5])}, "weight as one number or"),
        ({"partner": np.array([1, -1, 0])}, "-1 is no row"),
        ({"partner": np.array([1, 0])}, r"got shape \(2,\)"),
        ({"y": Y[0]}, r"targets \(batch, width\); got shape \(4,\)"),
        (
            {"y": {"labels": Y, "vectors": X}},
            "a dictionary of embedding and labels; got one of labels, vectors; mix each",
        ),
        ({"y": {"labels": Y[0], "embedding": X}}, r"targets \(batch, width\); got shape \(4,\)"),
        ({"x": X.astype(int)}, "floating-point x and y"),
    ],
)
def test_mixup_refuses_what_makes_no_sense(change, message):
    with pytest.raises(ValueError, match=message):
        mixup(**{"x": X, "y": Y, "weight": 0.5, **change})
