"""Joined labels in tf.data: whole batches of audio and targets, or targets attached to a user's own pipeline."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import tensorflow as tf

from softlabels.batches.calls.callbacks import call_python
from softlabels.batches.calls.several import batches_a_call, batches_of_call
from softlabels.batches.options import Audio, BatchOptions, Crops, Features, Shuffle
from softlabels.batches.rows import CropRule, LabelRows
from softlabels.batches.stream import Batches, named_targets

_as_it_is = tf.autograph.experimental.do_not_convert  # nothing here depends on values; AutoGraph takes half a second


def make_dataset(
    labels: LabelRows,
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
    workers: int = 2,
) -> tf.data.Dataset:
    """Batches of `(x, y_true)` for `model.fit`.

    Args:
      labels: the joined labels, one window a row.
      batch_size: rows a batch; the last batch of an epoch may be smaller.
      features: maps (batch, samples) float32 audio to an array with the same first axis; None leaves the audio.
      rate_hz: the sample rate of the audio; None is the teacher's.
      shuffle: a new order every epoch, fixed by (seed, epoch): True mixes all rows. "recordings" takes recordings in
        random order, some side by side, each a little out of its own: streamed audio is decoded once an epoch then, as
        with False (by threads; each of several processes decodes what it passes over).
      seed: of the order.
      sampling_weights: (rows,) how often to draw each row, with replacement, fixed by (seed, epoch), as
        `labels.sampling_weights()` gives; None takes every row once an epoch.
      embedding: the targets are a dictionary: "labels", y_true as without, and "embedding", (batch, width) float16, the
        teacher's, NaN where there is none; what `softlabels.with_embedding_head` is trained on.
      audio: "cache" keeps the sound beside the join, decoded once, as int16 with an exponent a block; "cache-float32"
        keeps the very samples, in twice the room; "stream" reads the files in every epoch. None keeps it as float32
        where streaming costs more than reading and there is room, else streams: the same bytes either way.
      keep_features: a version, such as "log-mel 1": what `features` makes is kept, too, for as long as its source, the
        sound and this text are the same. Change it with anything that the function uses. None keeps nothing.
      window_s: seconds of the student's window, from where the teacher's begins; None is as long as that. A shorter one
        has the label of its row, a longer one that of all it overlaps, as by `soft_at`, and zeros after its clip.
      crops: "random" begins each window in another place in every epoch, fixed by (seed, epoch): nearer to its row's
        window than to any other, and within its clip. Its label is that of its time, as by `soft_at`.
      upsample: draw rows of rare classes more often, in epochs as long as before: each class at least this share, from
        0 to 1, of the most frequent one's rows; what nobody annotated counts where the teacher gives it 0.5 or more.
      workers: batches made at once, ahead of the model; 0 makes each when it is asked for. The stream is the same.
    Returns: a `tf.data.Dataset` of known length: x as `features` gives it, y_true (batch, 2 * classes) float32. Every
      pass over it is the next epoch. Its `get_state()` and `set_state()` resume it.
    Raises: ValueError: no rows, pooled windows, features that change the first axis, an option that makes no sense, or
      windows longer than any clip. JoinError: embeddings of labels that have none.
    Example:
      >>> x, y_true = next(iter(softlabels.make_dataset(labels, batch_size=4, rate_hz=4000)))
      >>> x.shape, y_true.shape
      (TensorShape([4, 400]), TensorShape([4, 6]))
    """
    if workers < 0:
        raise ValueError(f"workers: expected 0 or more, got {workers}")
    options = BatchOptions.among(locals())
    stream = _Stream(Batches(labels, options))
    dataset = stream.pipeline(workers)
    dataset.get_state, dataset.set_state = stream.get_state, stream.set_state
    return dataset


class _Stream:
    """The stream of batches behind a dataset, which knows which of them were taken.

    Its state is the number of batches taken so far. After `set_state` the next pass goes on there: it has as many
    batches as any, so that a pass may then end in the middle of an epoch's order, and repeats and skips none.
    """

    def __init__(self, batches: Batches) -> None:
        self._batches = batches
        self._next = 0  # where in the stream of batches the next pass begins
        with tf.device("CPU"):
            self._taken = tf.Variable(0, dtype=tf.int64, trainable=False)

    def get_state(self) -> dict[str, Any]:
        """How far the stream was taken, as a small JSON object."""
        return self._batches.state(int(self._taken.numpy()))

    def set_state(self, state: dict[str, Any]) -> None:
        """Let the next pass begin where a state says. Raises: ValueError: it is one of other batches."""
        self._next = self._batches.position_of(state)
        self._taken.assign(self._next)

    def pipeline(self, workers: int) -> tf.data.Dataset:
        """One pass over the next epoch's batches, however often it is asked for one."""
        parallel = {"num_parallel_calls": workers, "deterministic": True} if workers else {}
        options = tf.data.Options()
        options.experimental_optimization.inject_prefetch = False  # the count has to come after all prefetching
        options.autotune.enabled = False  # nothing to tune; an iterator would wait for the tuner's next look, seconds
        together = batches_a_call(self._batches) if workers else 1
        made = (
            tf.data.Dataset.from_tensors(0)
            .flat_map(_as_it_is(lambda _: self._calls(together)))
            .map(_as_it_is(self._one if together == 1 else self._several), **parallel)  # never a Python call a row
            .prefetch(workers)  # 0 is none
        )
        return (
            (made if together == 1 else made.flat_map(_as_it_is(self._singly)))
            .apply(tf.data.experimental.assert_cardinality(len(self._batches)))
            .map(_as_it_is(self._count))
            .with_options(options)
        )

    def _calls(self, together: int) -> tf.data.Dataset:
        """What each call of a pass makes: the number of a batch, or of a first one and the one after the last."""
        begin, end = call_python(self._begin, [], [tf.int64, tf.int64])
        firsts = tf.data.Dataset.range(begin, end, together)
        return firsts if together == 1 else firsts.map(_as_it_is(lambda n: (n, tf.minimum(n + together, end))))

    def _begin(self) -> tuple[np.int64, np.int64]:
        first, self._next = self._next, self._next + len(self._batches)
        return np.int64(first), np.int64(self._next)

    def _one(self, number: tf.Tensor) -> tuple[tf.Tensor, tuple[tf.Tensor, Any]]:
        return number, self._load(number, number + 1)[1]

    def _several(self, first: tf.Tensor, end: tf.Tensor) -> tuple[tuple[tf.Tensor, ...], tuple[tf.Tensor, Any]]:
        made, batches = self._load(first, end)
        return (first, made, end), batches

    def _load(self, first: tf.Tensor, end: tf.Tensor) -> tuple[tf.Tensor, tuple[tf.Tensor, Any]]:
        """As `batches_of_call`; what a batch consists of is below each other."""
        example, widths = self._batches.example, _widths(self._batches.labels, self._batches.embedding_width)
        kinds = [tf.int64, example.dtype, tf.float32, tf.float16][: 2 + len(widths)]
        load = partial(batches_of_call, self._batches)
        made, x, *targets = call_python(load, [first, end], kinds, stateful=False)
        made.set_shape([])
        x.set_shape([None, *example.shape[1:]])
        for target, width in zip(targets, widths, strict=True):
            target.set_shape([None, width])
        return made, (x, named_targets(*targets))

    def _singly(self, call: tuple[tf.Tensor, ...], batches: tuple[tf.Tensor, Any]) -> tf.data.Dataset:
        """The batches of a call, each with its number; what it left out is made one by one."""
        first, made, end = call
        cut = tf.data.Dataset.from_tensors(batches).rebatch(self._batches.batch_size)
        rest = tf.data.Dataset.range(made, end).map(_as_it_is(self._one))
        return tf.data.Dataset.zip(tf.data.Dataset.range(first, made), cut).concatenate(rest)

    def _count(self, number: tf.Tensor, batch: tuple[tf.Tensor, Any]) -> tuple[tf.Tensor, Any]:
        with tf.control_dependencies([self._taken.assign(number + 1)]):
            return tf.nest.map_structure(tf.identity, batch)


def _widths(labels: LabelRows, embedding_width: int) -> list[int]:
    """Of y_true, and of the embedding where there is one."""
    return [2 * len(labels.classes), *([embedding_width] if embedding_width else [])]


def attach(
    labels: LabelRows, *, how: CropRule = "linear", embedding: bool = False
) -> Callable[[dict[str, tf.Tensor]], tuple[Any, Any]]:
    """Put the labels of any crop beside it, in a tf.data pipeline of your own; for `dataset.map`, after `batch`.

        ds.batch(64).map(softlabels.attach(labels))

    Elements are dictionaries with `clip_id` (batch,) strings and `start_s` (batch,), where each crop starts in its
    file, and perhaps `duration_s` (batch,), where it is not the teacher's window; or with `row` (batch,), row numbers
    of the join. What else they hold is x, alone or as a dictionary. Of small batches many are best served at once:

        ds.batch(1024).map(softlabels.attach(labels)).rebatch(64)

    Args:
      labels: the joined labels, one window a row.
      how: as in `JoinedLabels.soft_at`.
      embedding: as in `make_dataset`.
    Returns: a function of an element that gives `(x, y_true)`, y_true (batch, 2 * classes) float32.
    Raises: ValueError: (from the function) an element without these names, without anything else, or not batched.
      JoinError: embeddings of labels that have none.
    Example:
      >>> import tensorflow as tf
      >>> crops = tf.data.Dataset.from_tensors({"clip_id": ["c0"], "start_s": [0.05], "x": [[1.0]]})
      >>> next(iter(crops.map(softlabels.attach(labels))))[1].shape
      TensorShape([1, 6])
    """

    widths = _widths(labels, labels.embedding_width if embedding else 0)

    def of_rows(rows: np.ndarray) -> list[np.ndarray]:
        return [labels.y_true(rows), *([labels.embedding(rows)] if embedding else [])]

    def of_crops(*crops: Any) -> list[np.ndarray]:
        return [labels.y_true_at(*crops, how=how), *([labels.embedding_at(*crops, how=how)] if embedding else [])]

    @_as_it_is
    def attached(element: dict[str, tf.Tensor]) -> tuple[Any, Any]:
        rest = _checked_element(element)
        if "row" in element:
            arguments = [element["row"]]
            function: Callable[..., list[np.ndarray]] = of_rows
        else:
            duration = element.get("duration_s", tf.constant(labels.window.window_s, tf.float64))
            arguments, function = [element["clip_id"], element["start_s"], duration], of_crops
        kinds = [tf.float32, tf.float16][: len(widths)]
        targets = call_python(function, arguments, kinds, stateful=False)
        for target, width in zip(targets, widths, strict=True):
            target.set_shape([arguments[0].shape[0], width])
        return (next(iter(rest.values())) if len(rest) == 1 else rest), named_targets(*targets)

    return attached


def _checked_element(element: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """What an element holds besides the key."""
    if not isinstance(element, dict) or not ("row" in element or {"clip_id", "start_s"} <= set(element)):
        got = sorted(element) if isinstance(element, dict) else type(element).__name__
        raise ValueError(f"attach: expected a dictionary with 'clip_id' and 'start_s', or with 'row', got {got}")
    key = element["row"] if "row" in element else element["clip_id"]
    if key.shape.rank != 1:
        raise ValueError(f"attach: expected batches, (batch,) keys, got shape {key.shape}; call batch() before")
    rest = {name: x for name, x in element.items() if name not in ("clip_id", "start_s", "duration_s", "row")}
    if not rest:
        raise ValueError("attach: expected something to train on beside the key, got the key alone")
    return rest
