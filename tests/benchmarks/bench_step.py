"""What soft labels cost a training step, and what they save against a teacher that answers live.

    python tests/benchmarks/bench_step.py [CORPUS] [--rounds 100]

CORPUS is a folder with a data_manifest.csv (default: the repository's corpus); the real BirdNET labels it first. All
fits are of the README's student, in turns within one process, so that a busy machine slows them alike.

1. `fit` with `DistillationLoss.for_labels` on [hard | soft] against the same fit with Keras's BinaryCrossentropy on the
   hard half of the same rows, annotated ones only. With features in memory, so that the step alone is timed, with and
   without the README's AUC and XLA (which Keras turns on by itself where there is a GPU); and as the README has it, the
   audio decoded on the fly. A third fit repeats the hard one: what it differs by is noise.
2. An epoch of ours, audio decoded, against `keras.distillation.Distiller` with BirdNET as a live Keras model on the
   same batches. Its audio and features lie in memory, which is more than anybody's would.

The last line of stdout is one JSON object.
"""

import argparse
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import keras
import numpy as np
import tensorflow as tf

import pipeline
import softlabels
from pipeline.teachers.loading import load_teacher
from pipeline.teachers.teacher import TeacherChoice

REPOSITORY = Path(__file__).resolve().parents[2]
CLASSES = REPOSITORY / "tests" / "corpus" / "classes.txt"
BATCH, RATE_HZ = 16, 24_000
STEPS = 60  # of one fit from memory: turns short enough that the machine is alike in all of a round

Arms = dict[str, Callable[[], float]]  # each gives seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path, nargs="?", default=REPOSITORY)
    parser.add_argument("--rounds", type=int, default=100)
    arguments = parser.parse_args()
    keras.utils.set_random_seed(0)
    print(
        f"{platform.machine()}, {os.cpu_count()} cores; Python {platform.python_version()}; "
        f"tensorflow {tf.__version__}; keras {keras.__version__}"
    )
    with tempfile.TemporaryDirectory() as folder:
        labels = annotated_labels(arguments.corpus.resolve(), Path(folder))
        print(f"{len(labels)} annotated windows, {len(labels.classes)} classes, batches of {BATCH}")
        figures = {
            **step_overhead(labels, arguments.rounds),
            **live_teacher(labels, max(3, arguments.rounds // 20)),
        }
    print(json.dumps({name: round(value, 4) for name, value in figures.items()}))


def annotated_labels(corpus: Path, folder: Path) -> softlabels.JoinedLabels:
    """The annotated training clips of a corpus, labelled by BirdNET and joined."""
    clips = [clip for clip in softlabels.read_manifest(corpus / "data_manifest.csv") if clip.labels is not None]
    manifest = folder / "data_manifest.csv"
    softlabels.write_manifest([clip for clip in clips if clip.split in (None, "", "train")], manifest)
    pipeline.run(manifest, folder / "soft_labels", root=corpus)
    return softlabels.open(folder / "soft_labels").join(manifest, classes=CLASSES, root=corpus)


def features(audio: np.ndarray) -> np.ndarray:
    """The README's: (batch, 72000) samples at 24 kHz -> (batch, 139, 64) log band power."""
    frames = np.lib.stride_tricks.sliding_window_view(audio, 1024, axis=1)[:, ::512] * np.hanning(1024)
    power = np.abs(np.fft.rfft(frames)[..., 1:257]) ** 2
    return np.log(power.reshape(*power.shape[:2], 64, 4).mean(axis=-1) + 1e-3).astype("float32") / 4


def student(classes: int) -> keras.Sequential:
    """The README's."""
    return keras.Sequential(
        [
            keras.layers.GlobalMaxPooling1D(),
            keras.layers.Dense(32, activation="relu"),
            keras.layers.Dense(classes, activation="sigmoid"),
        ]
    )


def step_overhead(labels: softlabels.JoinedLabels, rounds: int) -> dict[str, float]:
    """Part 1: time of the soft fit over the hard one's."""
    loaded = in_memory(softlabels.make_dataset(labels, BATCH, features, RATE_HZ))
    x, y_true = (np.concatenate(parts) for parts in zip(*loaded, strict=True))  # (rows, 139, 64), (rows, 2 * classes)
    classes = len(labels.classes)

    def from_memory(hard: bool) -> tf.data.Dataset:
        rows = tf.data.Dataset.from_tensor_slices((x, y_true[:, :classes] if hard else y_true))
        return rows.batch(BATCH, drop_remainder=True).cache().repeat().prefetch(2)

    def decoded(hard: bool) -> tf.data.Dataset:
        batches = softlabels.make_dataset(labels, BATCH, features, RATE_HZ, shuffle=True)
        return batches.map(lambda x, y: (x, y[:, : classes if hard else 2 * classes]))

    print(f"\n{'a batch, ms':<30}{'hard':>8}{'soft':>8}{'soft / hard':>13}{'95 %':>16}{'hard / hard':>13}{'95 %':>16}")
    figures = {}
    for metric, xla in ((False, False), (True, False), (False, True), (True, True)):
        arms = fits(labels, from_memory, step_s, metric=metric, xla=xla)
        name = f"in memory{', AUC' * metric}{', XLA' * xla}"
        figures |= report_overhead(name, timed(arms, rounds))
    arms = fits(labels, decoded, epoch_s, metric=True, xla=False)
    times = timed(arms, max(10, rounds // 5))
    return figures | report_overhead("audio decoded, AUC", {arm: t / len(loaded) for arm, t in times.items()})


def in_memory(batches: tf.data.Dataset) -> list[tuple[np.ndarray, ...]]:
    """Every batch of one epoch."""
    return list(batches.as_numpy_iterator())


def fits(
    labels: softlabels.JoinedLabels,
    batches: Callable[[bool], tf.data.Dataset],
    clock: Callable[[keras.Model, tf.data.Dataset], float],
    *,
    metric: bool,
    xla: bool,
) -> Arms:
    """name -> a timed fit; `batches` makes its data, with hard targets or packed ones."""

    def arm(loss: keras.losses.Loss, hard: bool) -> Callable[[], float]:
        auc = keras.metrics.AUC(multi_label=True, name="auc")
        metrics = [auc if hard else softlabels.HardLabelMetric(auc)] if metric else []
        model, data = student(len(labels.classes)), batches(hard)
        model.compile(keras.optimizers.Adam(3e-3), loss=loss, metrics=metrics, jit_compile=xla)
        return lambda: clock(model, data)

    return {
        "hard": arm(keras.losses.BinaryCrossentropy(), True),
        "soft": arm(softlabels.DistillationLoss.for_labels(labels), False),
        "hard again": arm(keras.losses.BinaryCrossentropy(), True),
    }


def step_s(model: keras.Model, data: tf.data.Dataset) -> float:
    """Seconds from one step of a fit to the next, the median: what interrupts a few of them does not count."""
    begun: list[float] = []
    model.make_train_function()
    step = model.train_function

    def noted(iterator):
        begun.append(time.perf_counter())
        return step(iterator)

    model.train_function = noted
    model.fit(data, steps_per_epoch=STEPS, verbose=0)
    model.train_function = step
    return float(np.median(np.diff(begun)))


def epoch_s(model: keras.Model, data: tf.data.Dataset, epochs: int = 4) -> float:
    """Seconds of an epoch, all that fit does included."""
    start = time.perf_counter()
    model.fit(data, epochs=epochs, verbose=0)
    return (time.perf_counter() - start) / epochs


def timed(arms: Arms, rounds: int) -> dict[str, np.ndarray]:
    """name -> (rounds,) seconds; the arms take turns, and which begins rotates."""
    names, times = list(arms), {name: [] for name in arms}
    for name in names:
        arms[name]()  # traces and compiles
    for turn in range(rounds):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            times[name].append(arms[name]())
    return {name: np.array(each) for name, each in times.items()}


def report_overhead(name: str, times: dict[str, np.ndarray]) -> dict[str, float]:
    """Print one line: medians, and the ratios within a round."""
    hard = np.sqrt(times["hard"] * times["hard again"])
    ratio, low, high = median(times["soft"] / hard)
    noise, noise_low, noise_high = median(times["hard again"] / times["hard"])
    print(
        f"{name:<30}{np.median(hard) * 1e3:8.3f}{np.median(times['soft']) * 1e3:8.3f}"
        f"{ratio:13.3f}{f'{low:.3f} .. {high:.3f}':>16}{noise:13.3f}{f'{noise_low:.3f} .. {noise_high:.3f}':>16}",
        flush=True,
    )
    return {f"soft / hard, {name}": ratio, f"hard / hard, {name}": noise}


def median(values: np.ndarray) -> tuple[float, float, float]:
    """The median, and a 95 % interval of it by resampling."""
    again = np.random.default_rng(0).choice(values, (1000, len(values)))
    low, high = np.percentile(np.median(again, axis=1), (2.5, 97.5))
    return float(np.median(values)), float(low), float(high)


class LiveBirdNET(keras.layers.Layer):
    """(batch, 144000) samples at 48 kHz -> (batch, classes) probabilities, by the interpreter, window by window."""

    def __init__(self, classes: softlabels.ClassList) -> None:
        super().__init__(trainable=False)
        self.teacher = load_teacher(TeacherChoice())
        positions = {name: i for i, name in enumerate(self.teacher.classes)}
        self.columns = np.array([positions[name] for name in classes])

    def call(self, audio: tf.Tensor) -> tf.Tensor:
        probabilities = tf.numpy_function(self.score, [audio], tf.float32)
        probabilities.set_shape([audio.shape[0], len(self.columns)])
        return probabilities

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return input_shape[0], len(self.columns)

    def score(self, audio: np.ndarray) -> np.ndarray:
        logits = np.concatenate([self.teacher.score(window[None])[:, self.columns] for window in audio])
        return 1 / (1 + np.exp(-logits))


def live_teacher(labels: softlabels.JoinedLabels, rounds: int) -> dict[str, float]:
    """Part 2: time of an epoch, ours over the live teacher's."""
    batches = softlabels.make_dataset(labels, BATCH, features, RATE_HZ, shuffle=True)
    model = student(len(labels.classes))
    model.compile(keras.optimizers.Adam(3e-3), loss=softlabels.DistillationLoss.for_labels(labels))
    distiller, audio_and_features = live_distiller(labels)
    arms = {
        "ours, audio decoded": lambda: epoch_s(model, batches, epochs=10),
        "Distiller, BirdNET live": lambda: epoch_s(distiller, audio_and_features, epochs=1),
    }
    times = timed(arms, rounds)
    speedup = times["Distiller, BirdNET live"] / times["ours, audio decoded"]
    print(f"\nan epoch of {len(labels)} windows, s")
    for name, each in times.items():
        print(f"{name:<30}{np.median(each):8.3f}   {each.min():.3f} .. {each.max():.3f}")
    print(f"{'live / ours':<30}{np.median(speedup):8.1f}   {speedup.min():.1f} .. {speedup.max():.1f}")
    return {"epoch, live / ours": float(np.median(speedup))}


def live_distiller(labels: softlabels.JoinedLabels) -> tuple[keras.distillation.Distiller, tf.data.Dataset]:
    """The distiller and its batches ((audio, features), hard), the same rows as ours, all of it in memory."""
    heard = in_memory(softlabels.make_dataset(labels, BATCH, shuffle=True))  # ((batch, 144000), (batch, 2 * classes))
    seen = in_memory(softlabels.make_dataset(labels, BATCH, features, RATE_HZ, shuffle=True))
    x = [
        np.concatenate(parts)
        for parts in zip(*((a, f) for (a, _), (f, _) in zip(heard, seen, strict=True)), strict=True)
    ]
    hard = np.concatenate([y_true[:, : len(labels.classes)] for _, y_true in seen])
    inputs = [keras.Input(one.shape[1:]) for one in x]
    distiller = keras.distillation.Distiller(
        teacher=keras.Model(inputs, LiveBirdNET(labels.classes)(inputs[0])),
        student=keras.Model(inputs, student(len(labels.classes))(inputs[1])),
        distillation_losses=keras.distillation.LogitsDistillation(temperature=1.0, loss="binary_crossentropy"),
    )
    # A Python call cannot be compiled by XLA.
    distiller.compile(keras.optimizers.Adam(3e-3), loss="binary_crossentropy", jit_compile=False)
    return distiller, tf.data.Dataset.from_tensor_slices((tuple(x), hard)).batch(BATCH).prefetch(2)


if __name__ == "__main__":
    main()
