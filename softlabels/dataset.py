"""Joined labels as a tf.data pipeline."""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from softlabels.join import JoinedLabels
from softlabels.window_audio import WindowAudio

Features = Callable[[np.ndarray], np.ndarray]


def make_dataset(
    labels: JoinedLabels,
    batch_size: int = 64,
    features: Features | None = None,
    rate_hz: int | None = None,
    shuffle: bool = False,
    seed: int = 0,
) -> tf.data.Dataset:
    """Batches of `(x, y_true)` for `model.fit`.

    Args:
      labels: the joined labels, one window a row.
      batch_size: rows a batch; the last batch of an epoch may be smaller.
      features: maps (batch, samples) float32 audio to an array with the same first axis; None leaves the audio.
      rate_hz: the sample rate of the audio; None is the teacher's.
      shuffle: a new order every epoch, fixed by (seed, epoch).
      seed: of the order.
    Returns: a dataset with a known length: x as `features` gives it, y_true (batch, 2 * classes) float32.
    Raises: ValueError: no rows, pooled windows, or features that change the first axis.
    """
    if not len(labels):
        raise ValueError("labels: expected at least one row, got an empty join; look at labels.report")
    if batch_size < 1:
        raise ValueError(f"batch_size: expected 1 or more, got {batch_size}")
    audio = WindowAudio(labels, rate_hz=rate_hz)
    features = features or (lambda samples: samples)
    example = _example(features, audio.window_samples)
    order = _EpochOrder(len(labels), shuffle=shuffle, seed=seed)

    def load(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.asarray(features(audio.read(rows)), example.dtype), labels.y_true(rows)

    def load_batch(rows: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        x, y_true = tf.numpy_function(load, [rows], [example.dtype, tf.float32], stateful=False)
        x.set_shape([None, *example.shape[1:]])
        y_true.set_shape([None, 2 * len(labels.classes)])
        return x, y_true

    return (
        tf.data.Dataset.from_tensors(0)
        .flat_map(lambda _: tf.data.Dataset.from_tensor_slices(tf.numpy_function(order.next, [], tf.int64)))
        .batch(batch_size)  # row numbers only: one Python call a batch, never one a row
        .map(load_batch)
        .apply(tf.data.experimental.assert_cardinality(-(-len(labels) // batch_size)))
        .prefetch(tf.data.AUTOTUNE)
    )


class _EpochOrder:
    """Row numbers in the order of each epoch; an epoch is one pass begun over the dataset."""

    def __init__(self, rows: int, *, shuffle: bool, seed: int) -> None:
        self._rows, self._shuffle, self._seed, self._epoch = rows, shuffle, seed, 0

    def next(self) -> np.ndarray:
        epoch, self._epoch = self._epoch, self._epoch + 1
        if not self._shuffle:
            return np.arange(self._rows)
        return np.random.Generator(np.random.PCG64([self._seed, epoch])).permutation(self._rows)


def _example(features: Features, window_samples: int) -> np.ndarray:
    """What features make of two windows of silence, for shape and dtype."""
    example = np.asarray(features(np.zeros((2, window_samples), np.float32)))
    if example.ndim < 1 or example.shape[0] != 2:
        raise ValueError(
            f"features: expected an array with the batch as first axis, (2, ...) for audio of shape (2, "
            f"{window_samples}), got {example.shape}"
        )
    return example
