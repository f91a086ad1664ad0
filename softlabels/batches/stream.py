"""Batches: which rows come when, and how a batch is made; the one thing behind tf.data, PyDataset and grain.

The stream of batches is numbered 0, 1, 2, ... over all epochs. Batch n depends on n alone, so any worker may make
it, and going on at batch n goes on with the very bytes that would have come.
"""

import threading
from typing import Any

import numpy as np

from softlabels.batches.options import BatchOptions, Features
from softlabels.batches.rows import LabelRows
from softlabels.batches.window_audio import WindowAudio

STATE_VERSION = 1


class Batches:
    """The batches of a join; `len(batches)` of them are an epoch.

    Raises: ValueError: no rows, pooled windows, weights that are none, or features that change the first axis.
    """

    def __init__(self, labels: LabelRows, options: BatchOptions) -> None:
        if not len(labels):
            raise ValueError("labels: expected at least one row, got an empty join; look at labels.report")
        if options.window_s is not None or options.crops or options.upsample:
            raise NotImplementedError("window_s, crops, upsample: not in this commit")
        pooled = labels.pooled_clips()
        if pooled:
            raise ValueError(
                f"windows={labels.windows!r} made one row of the windows of {len(pooled)} clips, such as {pooled[0]!r}"
                ": a row without a window has no audio; join with windows='each'"
            )
        self.labels, self.options = labels, options
        self.batch_size, self.features = options.batch_size, options.features
        self._shuffle, self._seed = options.shuffle, options.seed
        self.embedding_width = labels.embedding_width if options.embedding else 0
        if options.embedding:
            labels.embedding([0])  # built now: what is wrong is an error before any audio is read
        weights = options.sampling_weights
        self._cumulative = None if weights is None else _cumulative(weights, len(labels))
        self._order: tuple[int, np.ndarray | None] = (-1, None)  # of the epoch asked for last
        self._lock = threading.Lock()
        self.audio = WindowAudio(labels, rate_hz=options.rate_hz)
        self.example = _example(self.features, self.audio.window_samples)

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
        x = self.audio.read(rows)
        if self.features is not None:
            x = np.asarray(self.features(x), self.example.dtype)
            expected = (len(rows), *self.example.shape[1:])
            if x.shape != expected:
                raise ValueError(f"features: expected shape {expected}, as for other batches, got {x.shape}")
        return x, self.labels.y_true(rows), *([self.labels.embedding(rows)] if self.embedding_width else [])

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
                "resumes the same labels, batch_size, shuffle, seed and weights only"
            )
        return position

    def _identity(self) -> dict[str, Any]:
        weighted = None if self._cumulative is None else float(self._cumulative @ np.arange(len(self._cumulative)))
        return {
            "version": STATE_VERSION,
            "labels": self.labels.fingerprint,
            "batch_size": self.batch_size,
            "shuffle": self._shuffle,
            "seed": self._seed,
            "weights": weighted,
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
        if self._cumulative is not None:
            drawn = np.searchsorted(self._cumulative, generator.random(n), side="right")
            return drawn if self._shuffle else np.sort(drawn)
        order = np.arange(n, dtype=np.int32 if n < 2**31 else np.int64)
        generator.shuffle(order)
        return order

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in ("_lock", "_order")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _order=(-1, None), _lock=threading.Lock())


def named_targets(y_true: Any, embedding: Any = None) -> Any:
    """What a model of one output is trained on, or one with an embedding head, whose outputs have these names."""
    return y_true if embedding is None else {"labels": y_true, "embedding": embedding}


def _cumulative(weights: np.ndarray, rows: int) -> np.ndarray:
    """(rows,) float64 running sum that ends at 1."""
    weights = np.asarray(weights, np.float64)
    if weights.shape != (rows,) or not (weights >= 0).all() or not 0 < weights.sum() < np.inf:
        raise ValueError(
            f"sampling_weights: expected {rows} finite numbers from 0 up, one a row and not all 0, got shape "
            f"{weights.shape}; labels.sampling_weights() makes some"
        )
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
