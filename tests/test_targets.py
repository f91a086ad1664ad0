"""Packing, splitting, checking and weighting of targets, all without a framework."""

import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from softlabels.loss.targets import check_targets, class_weights_to_sample_weights, pack_targets, split_targets

HARD = np.array([[1, 0], [np.nan, np.nan]])
SOFT = np.array([[0.25, 0.5], [0.5, np.nan]])


def test_packed_targets_come_apart_as_they_went_in():
    y = pack_targets(HARD, SOFT)
    assert y.dtype == np.float32
    assert y.shape == (2, 4)
    for half, back in zip((HARD, SOFT), split_targets(y), strict=True):
        np.testing.assert_array_equal(half.astype(np.float32), back)


def test_halves_of_different_shapes_and_odd_widths_are_refused():
    with pytest.raises(ValueError, match=r"got hard \(2, 2\) and soft \(2, 1\)"):
        pack_targets(HARD, SOFT[:, :1])
    with pytest.raises(ValueError, match=r"got shape \(2, 3\)"):
        split_targets(np.zeros((2, 3)))


def test_good_targets_pass_unchanged():
    y = pack_targets(HARD, SOFT)
    assert check_targets(y) is y
    assert check_targets(y, activation="softmax") is y


@pytest.mark.parametrize("bad", [-0.25, 1.5, np.inf, -np.inf])
@pytest.mark.parametrize(("column", "half", "place"), [(1, "hard", 1), (3, "soft", 1)])
def test_values_outside_0_to_1_are_refused_naming_half_row_and_class(bad, column, half, place):
    y = pack_targets(HARD, SOFT)
    y[1, column] = bad
    with pytest.raises(ValueError, match=rf"{half} half in \[0, 1\].*got {bad:g} at row 1, class {place}"):
        check_targets(y)


def test_soft_rows_that_sum_above_one_are_refused_under_softmax_only():
    y = pack_targets(HARD, np.array([[0.25, 0.5], [0.9, 0.3]]))
    check_targets(y, activation="sigmoid")
    with pytest.raises(ValueError, match="got 1.2 at row 1; a sigmoid teacher needs activation='sigmoid'"):
        check_targets(y, activation="softmax")
    with pytest.raises(ValueError, match="activation 'sigmoid', 'softmax' or None; got 'tanh'"):
        check_targets(y, activation="tanh")


def test_the_check_runs_inside_a_tf_data_pipeline():
    def run(y):
        pipeline = tf.data.Dataset.from_tensor_slices(y).batch(2).map(check_targets)
        assert pipeline.element_spec.shape.as_list() == [None, 4]
        return next(iter(pipeline)).numpy()

    y = pack_targets(HARD, SOFT)
    np.testing.assert_array_equal(run(y), y)
    y[0, 2] = 7.0
    with pytest.raises(tf.errors.InvalidArgumentError, match="got 7 at row 0, class 0"):
        run(y)


def test_class_weights_become_row_weights_by_the_hard_label():
    hard = np.array([[1, 0, 0], [0, 1, 0], [0, 1, 1], [0, 0, 0], [np.nan] * 3])
    # one class: its weight; two: their mean (3 + 5) / 2; noise and unannotated: 1.
    expected = np.float32([2, 3, 4, 1, 1])
    np.testing.assert_array_equal(class_weights_to_sample_weights(hard, [2, 3, 5]), expected)
    np.testing.assert_array_equal(class_weights_to_sample_weights(hard, {0: 2, 1: 3, 2: 5}), expected)
    packed = np.concatenate([hard, np.full_like(hard, 0.5)], axis=1)
    np.testing.assert_array_equal(class_weights_to_sample_weights(packed, [2, 3, 5]), expected)
    assert class_weights_to_sample_weights(hard, {1: 3})[0] == 1.0


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1, 2], r"one weight per class for targets of width 3; got shape \(2,\)"),
        ({3: 1.0}, r"class indices in 0..2; got \[3\]"),
        ([1, -1, 1], "finite weights of at least 0"),
        ([1, float("nan"), 1], "finite weights of at least 0"),
    ],
)
def test_class_weights_that_do_not_fit_are_refused(weights, message):
    with pytest.raises(ValueError, match=message):
        class_weights_to_sample_weights(np.zeros((2, 3)), weights)


def test_targets_load_neither_keras_nor_tensorflow():
    heavy = "('keras', 'tensorflow', 'torch', 'jax')"
    code = f"import sys, softlabels.loss.targets; sys.exit(any(name in sys.modules for name in {heavy}))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
