"""Trainable: the doors of labels to Keras and grain, as methods. The one to tf.data is `make_dataset`."""

from typing import TYPE_CHECKING

import numpy as np

from softlabels.batches.options import Audio, BatchOptions, Crops, Features, Shuffle
from softlabels.batches.rows import LabelRows
from softlabels.batches.stream import Batches

if TYPE_CHECKING:
    import grain

    from softlabels.batches.frameworks.keras_dataset import LabelPyDataset


class Trainable:
    """Labels whose batches are asked for by a method."""

    __slots__ = ()

    def as_pydataset(
        self: LabelRows,
        batch_size: int = 64,
        features: Features | None = None,
        rate_hz: int | None = None,
        shuffle: Shuffle = False,
        seed: int = 0,
        *,
        sampling_weights: np.ndarray | None = None,
        embedding: bool = False,
        window_s: float | None = None,
        crops: Crops | None = None,
        upsample: float = 0.0,
        audio: Audio | None = None,
        keep_features: str | None = None,
        workers: int = 1,
    ) -> "LabelPyDataset":
        """The batches of `make_dataset` as a `keras.utils.PyDataset`, for Keras on any backend.

        `fit(..., shuffle=False)` keeps their order; by default Keras shuffles whole batches once more, so that streamed
        audio is decoded again and again.

        Args:
          workers: Keras's threads that prepare batches; the others are as in `make_dataset`.
        Example:
          >>> len(labels.as_pydataset(batch_size=4, shuffle=True))  # batches
          4
        """
        from softlabels.batches.frameworks.keras_dataset import LabelPyDataset

        options = BatchOptions.among(locals())
        return LabelPyDataset(Batches(self, options), workers=workers)

    def as_grain(
        self: LabelRows,
        batch_size: int = 64,
        features: Features | None = None,
        rate_hz: int | None = None,
        shuffle: Shuffle = False,
        seed: int = 0,
        *,
        sampling_weights: np.ndarray | None = None,
        embedding: bool = False,
        window_s: float | None = None,
        crops: Crops | None = None,
        upsample: float = 0.0,
        audio: Audio | None = None,
        keep_features: str | None = None,
        epochs: int = 1,
    ) -> "grain.MapDataset":
        """The batches of `make_dataset` as a `grain.MapDataset` of `epochs` epochs; needs the extra `grain`.

        `.to_iter_dataset()` iterates over it with threads, worker processes and a state, as grain does. Each of k
        worker processes makes every k-th batch, and decodes nearly all streamed audio that is resampled.
        Example:
          >>> len(labels.as_grain(batch_size=4, epochs=2))
          8
        """
        from softlabels.batches.frameworks.grain_dataset import grain_dataset

        options = BatchOptions.among(locals())
        return grain_dataset(Batches(self, options), epochs)
