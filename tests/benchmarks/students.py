"""Small students: their features, their network, and training by a fixed budget of steps.

Every student of a benchmark has the same network, the same optimiser and the same number of steps of the same size;
only labels and loss differ. Not here: which labels and which loss (`arms.py`).
"""

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import joblib
import keras
import numpy as np
import tensorflow as tf
from log_mel import LogMel
from published_loss import PublishedLoss

import softlabels

Examine = Callable[[keras.Model, np.ndarray, np.ndarray], np.ndarray]
STEPS = 400
BATCH = 32
LOSSES = (softlabels.DistillationLoss, PublishedLoss)  # Keras finds them by name once they are imported
RATE = 1e-2
SMALL, FIELD = (16, 24, 32, 48), (32, 48, 64, 96, 128, 160)  # widths of convolutions
POOLED = "pooled"  # the layer that an embedding head is put on


def keep_features(labels: softlabels.JoinedLabels, mel: LogMel, path: Path) -> Path:
    """Write (rows, frames, bands, 1) of every row to `path`, as `make_dataset` gives them, unless they are there."""
    if not path.exists():
        batches = softlabels.make_dataset(labels, 128, features=mel, rate_hz=mel.rate_hz)
        np.save(path, np.concatenate([x.numpy() for x, _ in batches]))
    return path


def build_student(
    shape: tuple[int, ...], outputs: int, mean: float, deviation: float, widths: tuple[int, ...] = SMALL
) -> keras.Model:
    """A separable-convolution network; (batch, *shape) -> (batch, outputs) logits.

    widths: of its convolutions; those of SMALL have some 4,500 weights, those of FIELD 51,000.
    """
    layers = keras.layers
    stack: list[keras.Layer] = [layers.Input(shape), layers.Normalization(mean=mean, variance=deviation**2)]
    stack += [layers.Conv2D(widths[0], 3, 2, "same", use_bias=False)]
    stack += [layers.BatchNormalization(momentum=0.9), layers.ReLU()]
    for number, width in enumerate(widths[1:]):
        stack += [layers.SeparableConv2D(width, 3, 2 if number < 2 else 1, "same", use_bias=False)]
        stack += [layers.BatchNormalization(momentum=0.9), layers.ReLU()]
    return keras.Sequential([*stack, layers.GlobalMaxPooling2D(name=POOLED), layers.Dense(outputs)])


@dataclass(frozen=True, slots=True, kw_only=True)
class Lesson:
    """All that a student learns from, besides its pictures.

    y: (rows, 2 * classes) `[hard | soft]` as `JoinedLabels.y_true` gives it; rows: those to train on.
    loss: a Keras loss over y and logits, as its configuration; seed: of the weights and of the order of rows.
    weights: (rows,) of y, how often each is drawn; None goes through all of them in turn.
    rate: of Adam at first, falling to 0 along a cosine.
    prior: the last layer starts at the classes' mean soft labels, where most of them are rare.
    varied: pictures are rolled in time by up to a second, and six bands of each batch are silent.
    widths: of the network. embedding: (rows, width) float16, the teacher's, learned beside y with `embedding_weight`.
    """

    y: np.ndarray
    rows: np.ndarray
    loss: dict[str, Any]
    seed: int
    steps: int = STEPS
    weights: np.ndarray | None = None
    rate: float = RATE
    prior: bool = False
    varied: bool = False
    widths: tuple[int, ...] = SMALL
    embedding: np.ndarray | None = None
    embedding_weight: float = 0.2

    def digest(self) -> str:
        """Changes with all that the student will be, but for its pictures."""
        settings = [self.loss, self.seed, self.steps, BATCH, self.rate, self.y.shape]
        sha = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode())
        sha.update(self.y.tobytes() + self.rows.tobytes())
        if self.weights is not None:
            sha.update(self.weights.tobytes())
        sha.update(b"prior" * self.prior + b"varied" * self.varied)
        if self.widths != SMALL:
            sha.update(repr(self.widths).encode())
        if self.embedding is not None:
            sha.update(repr(self.embedding_weight).encode() + self.embedding.tobytes())
        return sha.hexdigest()[:24]


def float_answers(student: keras.Model, train_x: np.ndarray, test_x: np.ndarray) -> np.ndarray:
    """(test rows, outputs) float32 logits, as the student is."""
    return student.predict(test_x, batch_size=256, verbose=0)


def answers(
    lessons: Sequence[Lesson], train_x: Path, test_x: Path, *, jobs: int, examine: Examine = float_answers
) -> list[np.ndarray]:
    """What the students of these lessons answer to the test clips; arguments as in `answers_each`."""
    return answers_each([(lesson, train_x, test_x) for lesson in lessons], jobs=jobs, examine=examine)


def answers_each(
    tasks: Sequence[tuple[Lesson, Path, Path]], *, jobs: int, examine: Examine = float_answers
) -> list[np.ndarray]:
    """What students answer, each taught and examined with pictures of its own.

    Answers are kept beside the training pictures under the digest of the lesson, so an interrupted benchmark goes on.

    Args:
      tasks: lessons, with the arrays of pictures to train and to be examined on, as `keep_features` writes them.
      jobs: processes, of one thread each.
      examine: from the student and both arrays of pictures to its answers.
    Returns: (test rows, outputs) float32 logits a task.
    """
    places = {}
    for lesson, train_x, test_x in tasks:
        folder = train_x.parent / "students"
        folder.mkdir(exist_ok=True)
        path = folder / f"{test_x.parent.name}-{examine.__name__}-{lesson.digest()}.npy"
        places[path] = (lesson, train_x, test_x)
    joblib.Parallel(n_jobs=jobs)(
        joblib.delayed(_keep_answers)(path, *task, examine) for path, task in places.items() if not path.exists()
    )
    return [np.load(path) for path in places]


def _keep_answers(path: Path, lesson: Lesson, train_x: Path, test_x: Path, examine: Examine) -> None:
    _use_one_thread()
    student = train(_pictures(train_x), lesson)
    temporary = path.with_suffix(f".{os.getpid()}.npy")
    np.save(temporary, examine(student, _pictures(train_x), _pictures(test_x)))
    temporary.replace(path)


_pictures = cache(np.load)


@cache
def _use_one_thread() -> None:
    """Two students at once learn faster than one on two threads; only before TensorFlow has done anything."""
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)


def train(x: np.ndarray, lesson: Lesson) -> keras.Model:
    """A student after `lesson.steps` steps of `BATCH` rows.

    Its batches are those of `make_dataset(labels, BATCH, features, shuffle=True)` in everything but their order: the
    same features and the same `y_true`, taken from memory because hundreds of students hear the same clips.
    """
    keras.backend.clear_session()
    keras.utils.set_random_seed(lesson.seed)
    student = build_student(x.shape[1:], lesson.y.shape[1] // 2, float(x.mean()), float(x.std()), lesson.widths)
    if lesson.prior:
        start_at_prior(student, lesson)
    rate = keras.optimizers.schedules.CosineDecay(lesson.rate, lesson.steps)
    loss = keras.saving.deserialize_keras_object(lesson.loss)
    model, targets = student, tf.constant(lesson.y)
    if lesson.embedding is not None:
        model = softlabels.with_embedding_head(student, layer=POOLED, width=lesson.embedding.shape[1])
        loss = {"labels": loss, "embedding": softlabels.EmbeddingLoss(lesson.embedding_weight)}
        targets = {"labels": targets, "embedding": tf.constant(lesson.embedding)}
    model.compile(keras.optimizers.Adam(rate), loss=loss, steps_per_execution=50, jit_compile=False)
    pictures = tf.constant(x)
    order = tf.data.Dataset.from_tensor_slices(batch_rows(lesson))
    taken = lambda rows: tf.nest.map_structure(lambda each: tf.gather(each, rows), targets)  # noqa: E731
    batches = order.map(lambda rows: (tf.gather(pictures, rows), taken(rows)))
    if lesson.varied:
        batches = batches.map(lambda x, y: (vary(x), y))
    model.fit(batches, shuffle=False, verbose=0)
    return student  # with a head, too, it is trained in place


def vary(x: tf.Tensor) -> tf.Tensor:
    """(batch, frames, bands, 1) rolled by up to 30 frames (a second), with six neighbouring bands silent."""
    rolled = tf.roll(x, tf.random.uniform([], -30, 31, tf.int32), 1)
    silent = tf.random.uniform([], 0, x.shape[2] - 6, tf.int32) + tf.range(6)
    return rolled * tf.reshape(tf.reduce_min(1 - tf.one_hot(silent, x.shape[2]), axis=0), [1, 1, -1, 1])


def start_at_prior(student: keras.Model, lesson: Lesson) -> None:
    """The last layer says at first what a constant would: the log-odds of the mean soft labels."""
    mean = np.clip(lesson.y[lesson.rows, lesson.y.shape[1] // 2 :].mean(axis=0, dtype=np.float64), 1e-4, 1 - 1e-4)
    kernel, _ = student.layers[-1].get_weights()
    student.layers[-1].set_weights([0.1 * kernel, np.log(mean / (1 - mean))])


def batch_rows(lesson: Lesson) -> np.ndarray:
    """(steps, BATCH) row numbers: drawn by weight, or every row once before any comes again."""
    rng = np.random.default_rng(lesson.seed)
    if lesson.weights is not None:
        weights = lesson.weights[lesson.rows]
        return rng.choice(lesson.rows, (lesson.steps, BATCH), p=weights / weights.sum())
    rounds = -(-lesson.steps * BATCH // len(lesson.rows))
    order = np.concatenate([rng.permutation(lesson.rows) for _ in range(rounds)])
    return order[: lesson.steps * BATCH].reshape(lesson.steps, BATCH)
