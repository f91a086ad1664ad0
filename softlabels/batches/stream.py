"""Batches: which rows come when, and how a batch is made; the one thing behind tf.data, PyDataset and grain.

The stream of batches is numbered 0, 1, 2, ... over all epochs. Batch n depends on n alone, so any worker may make
it, and going on at batch n goes on with the very bytes that would have come.
"""

import threading
from dataclasses import replace
from typing import Any

import numpy as np

from softlabels.batches.crops import PlacedCrops, cropping, student_window
from softlabels.batches.options import BatchOptions, Features
from softlabels.batches.order import recordings_order, say_cost
from softlabels.batches.rows import LabelRows
from softlabels.batches.sampling import upsampled
from softlabels.batches.sources.kept_features import KeptFeatures, keep_features, made_of
from softlabels.batches.sources.sound_source import audio_of, form_of, read_crops
from softlabels.batches.window_audio import WindowAudio
from softlabels.digests import sha256_of_bytes

STATE_VERSION = 2  # in version 1 `weights` was a sum, which another CPU could round otherwise


class Batches:
    """The batches of a join; `len(batches)` of them are an epoch.

    Raises: ValueError: no rows, pooled windows, weights that are none, or features that change the first axis.
    """

    def __init__(self, labels: LabelRows, options: BatchOptions) -> None:
        if not len(labels):
            raise ValueError("labels: expected at least one row, got an empty join; look at labels.report")
        pooled = labels.pooled_clips()
        if pooled:
            raise ValueError(
                f"windows={labels.windows!r} made one row of the windows of {len(pooled)} clips, such as {pooled[0]!r}"
                ": a row without a window has no audio; join with windows='each'"
            )
        self.labels, self.options = labels, replace(options, sampling_weights=None)  # their running sum is kept
        self.batch_size, self.features = options.batch_size, options.features
        self._shuffle, self._seed = options.shuffle, options.seed
        self.embedding_width = labels.embedding_width if options.embedding else 0
        if options.embedding:
            labels.embedding([0])  # built now: what is wrong is an error before any audio is read
        self._cropping = cropping(labels, options)
        self._cumulative = _cumulative(labels, options)
        self._weighted = None if self._cumulative is None else sha256_of_bytes(self._cumulative.tobytes())
        self._order: tuple[int, np.ndarray | None] = (-1, None)  # of the epoch asked for last
        self._lock = threading.Lock()
        self.audio = audio_of(labels, options.rate_hz, student_window(labels, options)[1], options.audio)
        if self._shuffle is True and isinstance(self.audio, WindowAudio) and not options.keep_features:
            rows = np.concatenate([self.rows(n) for n in range(min(100, len(self)))])
            say_cost(labels.places(), rows, self.batch_size, self.audio)
        self.example = _example(self.features, self.audio.window_samples)
        self._kept: KeptFeatures | None = None
        if options.keep_features and self.features:
            what = labels, self.features, options.keep_features, self.example, self.audio
            self._kept = keep_features(*what, form_of(options.audio), self._cropping)

    def __len__(self) -> int:
        return -(-len(self.labels) // self.batch_size)

    def rows(self, number: int) -> np.ndarray:
        """(batch,) the rows of batch `number` of the stream."""
        epoch, batch = divmod(number, len(self))
        first, end = batch * self.batch_size, min((batch + 1) * self.batch_size, len(self.labels))
        order = self._epoch_order(epoch)
        return np.arange(first, end) if order is None else order[first:end]

    def no_arrays(self) -> tuple[np.ndarray, ...]:
        """`arrays` of a batch of no rows."""
        embedding = [self.labels.embedding([])] if self.embedding_width else []
        return self.example[:0], self.labels.y_true([]), *embedding

    def load(self, number: int) -> tuple[np.ndarray, np.ndarray | dict[str, np.ndarray]]:
        """Batch `number` of the stream: x, and y_true, with embeddings as `named_targets`; see `arrays`."""
        x, *targets = self.arrays(number)
        return x, named_targets(*targets)

    def arrays(self, number: int) -> tuple[np.ndarray, ...]:
        """x as `features` gives it, y_true (batch, 2 * classes) float32, and if asked embeddings, float16.

        Raises: ValueError: features gave another shape or kind than for two windows of silence.
        """
        rows = self.rows(number)
        crops = self._crops(number, rows)
        x = self._x(rows, crops)
        if crops is not None:
            wanted = rows, crops.start, crops.length, crops.how
            return x, *self.labels.cropped(*wanted, embedding=bool(self.embedding_width))
        return x, self.labels.y_true(rows), *([self.labels.embedding(rows)] if self.embedding_width else [])

    def _x(self, rows: np.ndarray, crops: PlacedCrops | None) -> np.ndarray:
        if self._kept is not None:
            return self._kept.read(rows)
        sound = read_crops(self.audio, rows, crops)
        return sound if self.features is None else made_of(self.features, sound, self.example)

    def _crops(self, number: int, rows: np.ndarray) -> PlacedCrops | None:
        """Of a batch; by (seed, epoch, place in the epoch), so that a row that is drawn twice has two crops."""
        if self._cropping is None:
            return None
        if self.options.crops is None:
            return self._cropping.at(rows)
        epoch, batch = divmod(number, len(self))
        bits = np.random.PCG64([self._seed, epoch, 1]).advance(int(batch) * self.batch_size)  # without 1: the order's
        return self._cropping.around(rows, np.random.Generator(bits).random(len(rows)))

    def state(self, position: int) -> dict[str, Any]:
        """What it takes to go on at batch `position` of the stream, as a small JSON object."""
        return {"position": position, **self._identity()}

    def position_of(self, state: dict[str, Any]) -> int:
        """Where a state goes on. Raises: ValueError: it is one of other batches."""
        expected, position = self._identity(), state.get("position")
        wrong = [name for name, value in expected.items() if state.get(name) != value]
        if wrong or not isinstance(position, int) or position < 0:
            name = wrong[0] if wrong else "position"
            raise ValueError(
                f"set_state: expected {name} {expected.get(name, 'from 0 up')!r}, got {state.get(name)!r}: a state "
                "resumes the same labels, batch_size, shuffle, seed, weights, window_s and crops only"
            )
        return position

    def _identity(self) -> dict[str, Any]:
        return {
            "version": STATE_VERSION,
            "labels": self.labels.fingerprint,
            "batch_size": self.batch_size,
            "shuffle": self._shuffle,
            "seed": self._seed,
            "weights": self._weighted,
            "window_s": self.options.window_s,
            "crops": self.options.crops,
            "upsample": self.options.upsample or None,
        }

    def _epoch_order(self, epoch: int) -> np.ndarray | None:
        """(rows,) the rows of an epoch in order; None where they come as they stand."""
        if not self._shuffle and self._cumulative is None:
            return None
        with self._lock:
            if self._order[0] != epoch:
                self._order = (epoch, self._draw(epoch))
            return self._order[1]

    def _draw(self, epoch: int) -> np.ndarray:
        n, generator = len(self.labels), np.random.Generator(np.random.PCG64([self._seed, epoch]))
        order = np.arange(n, dtype=np.int32 if n < 2**31 else np.int64)
        if self._cumulative is not None:
            order = np.searchsorted(self._cumulative, generator.random(n), side="right")
        if self._shuffle == "recordings":
            window, places = self.labels.window, self.labels.places().of(order)
            return order[recordings_order(places, window.rate_hz, window.window_samples, generator)]
        if self._cumulative is not None:
            return order if self._shuffle else np.sort(order)
        generator.shuffle(order)
        return order

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in ("_lock", "_order")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _order=(-1, None), _lock=threading.Lock())


def named_targets(y_true: Any, embedding: Any = None) -> Any:
    """What a model of one output is trained on, or one with an embedding head, whose outputs have these names."""
    return y_true if embedding is None else {"labels": y_true, "embedding": embedding}


def _cumulative(labels: LabelRows, options: BatchOptions) -> np.ndarray | None:
    """(rows,) float64 running sum of how often to draw each row, that ends at 1; None: each once."""
    rows, weights = len(labels), options.sampling_weights
    if weights is not None:
        weights = np.asarray(weights, np.float64)
        if weights.shape != (rows,) or not (weights >= 0).all() or not 0 < weights.sum() < np.inf:
            raise ValueError(
                f"sampling_weights: expected {rows} finite numbers from 0 up, one a row and not all 0, got shape "
                f"{weights.shape}; labels.sampling_weights() makes some"
            )
    if options.upsample:
        even = np.ones(rows) if weights is None else weights
        weights = upsampled(even, labels.y_true, len(labels.classes), options.upsample)
    if weights is None:
        return None
    total = np.cumsum(weights)
    return total / total[-1]


def _example(features: Features | None, window_samples: int) -> np.ndarray:
    """What features make of two windows of silence, for shape and dtype."""
    silence = np.zeros((2, window_samples), np.float32)
    example = silence if features is None else np.asarray(features(silence))
    if example.ndim < 1 or example.shape[0] != 2:
        raise ValueError(
            f"features: expected an array with the batch as first axis, (2, ...) for audio of shape (2, "
            f"{window_samples}), got {example.shape}"
        )
    return example
