"""Spoken digits: the Free Spoken Digit Dataset as a corpus, and a teacher of our own trained on part of it.

Of each of four speakers, half the takes train the teacher and the other half, which it has never heard, the students.
One speaker is for choices, one is held out for the report. Source: github.com/Jakobovski/free-spoken-digit-dataset.
"""

import csv
import io
import os
import tarfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import keras
from song_corpus import LabelledCorpus

import pipeline
from softlabels.digests import sha256_of_file

RATE_HZ = 8000
CHOICE, HELD_OUT = "nicolas", "theo"
NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
EPOCHS = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Take:
    """One recording: a digit, who said it, which of the takes, and (samples,) float32 at 8 kHz."""

    digit: int
    speaker: str
    take: int
    samples: np.ndarray

    @property
    def split(self) -> str:
        """Who learns from it, or what it tests; teacher and students never share a take."""
        if self.speaker in (CHOICE, HELD_OUT):
            return "choice" if self.speaker == CHOICE else "test"
        return "teacher" if self.take % 2 else "train"

    @property
    def clip_id(self) -> str:
        return f"{self.digit}-{self.speaker}-{self.take:02d}"


def read_takes(archive: Path) -> list[Take]:
    """All takes of the dataset's archive, sorted by name."""
    takes = []
    with tarfile.open(archive) as tar:
        for member in sorted(tar, key=lambda member: member.name):
            if member.name.endswith(".wav"):
                samples, rate_hz = soundfile.read(io.BytesIO(tar.extractfile(member).read()), dtype="float32")
                if rate_hz != RATE_HZ:
                    raise ValueError(f"{member.name}: expected {RATE_HZ} Hz, got {rate_hz}; is this the dataset?")
                digit, speaker, take = Path(member.name).stem.split("_")
                takes.append(Take(digit=int(digit), speaker=speaker, take=int(take), samples=samples))
    return takes


def make_digits(archive: Path, work: Path) -> dict[str, LabelledCorpus]:
    """The corpora "train", "choice" and "test", each labelled by the teacher; made once."""
    takes = read_takes(archive)
    folder = work / "digits"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "classes.txt").write_text("".join(f"{name}\n" for name in NAMES), encoding="utf-8")
    model = folder / "teacher.keras"
    if not model.exists():
        train_teacher([take for take in takes if take.split == "teacher"]).save(model)
    corpora = {}
    for split in ("train", "choice", "test"):
        corpora[split] = corpus = LabelledCorpus(
            folder=folder / split, store="soft_labels", class_file="../classes.txt"
        )
        if not corpus.manifest.exists():
            write_takes([take for take in takes if take.split == split], corpus.folder)
        if not list((corpus.folder / corpus.store).glob("_SUCCESS-*.json")):
            label(corpus, model)
    return corpora


def label(corpus: LabelledCorpus, model: Path) -> None:
    """What `softlabels run --teacher keras` does."""
    teacher = pipeline.TeacherChoice(
        kind="keras",
        model=str(model),
        model_sha256=sha256_of_file(model),
        labels=str(corpus.classes),
        rate_hz=RATE_HZ,
        activation="softmax",
        outputs="logits",
    )
    pipeline.run(corpus.manifest, corpus.folder / corpus.store, teacher=teacher, jobs=1)


def write_takes(takes: list[Take], folder: Path) -> None:
    """One WAV a take, of which the first second is the clip, and the manifest."""
    (folder / "audio").mkdir(parents=True, exist_ok=True)
    rows = []
    for take in takes:
        soundfile.write(folder / "audio" / f"{take.clip_id}.wav", take.samples, RATE_HZ, subtype="PCM_16")
        end_s = min(1.0, len(take.samples) / RATE_HZ)
        rows.append((take.clip_id, f"audio/{take.clip_id}.wav", NAMES[take.digit], take.split, 0.0, end_s))
    with (folder / "data_manifest.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerows([("clip_id", "path", "label", "split", "start_s", "end_s"), *rows])


def train_teacher(takes: list[Take]) -> keras.Model:
    """A convolutional network from one second of waveform to logits, trained with other voices, shifts and noise."""
    keras.utils.set_random_seed(7)
    second = np.zeros((len(takes), RATE_HZ), np.float32)
    for row, take in zip(second, takes, strict=True):
        row[: len(take.samples)] = take.samples[:RATE_HZ]
    digits = np.array([take.digit for take in takes])
    rng = np.random.default_rng(7)
    teacher = build_teacher()
    rate = keras.optimizers.schedules.CosineDecay(2e-3, EPOCHS * -(-len(takes) // 32))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    teacher.compile(keras.optimizers.Adam(rate), loss=loss)
    for _ in range(EPOCHS):
        teacher.fit(varied(second, rng), digits, batch_size=32, verbose=0)
    return teacher


def varied(second: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(takes, samples) with another voice (faster is higher), a later start and some noise, each take its own."""
    grid = np.arange(second.shape[1])
    speed, later = rng.uniform(0.85, 1.2, len(second)), rng.integers(0, RATE_HZ // 5, len(second))
    moved = [
        np.interp((grid - by) * factor, grid, row, 0, 0) for row, factor, by in zip(second, speed, later, strict=True)
    ]
    noise = rng.normal(0, 1, second.shape) * np.exp(rng.uniform(-9, -5, (len(second), 1)))
    return (np.array(moved) + noise).astype(np.float32)


def build_teacher() -> keras.Model:
    """Some 60,000 weights; the spectrogram is inside, so that the pipeline can feed it audio of any level."""
    layers = keras.layers
    mel = layers.MelSpectrogram(256, 80, sampling_rate=RATE_HZ, num_mel_bins=48, top_db=60.0)
    level_free = layers.LayerNormalization(axis=(1, 2, 3), center=False, scale=False)
    stack: list[keras.Layer] = [layers.Input((RATE_HZ,)), mel, layers.Reshape((48, -1, 1)), level_free]
    for width in (24, 48, 96):
        stack += [layers.Conv2D(width, 3, 2, "same", use_bias=False), layers.BatchNormalization(momentum=0.9)]
        stack += [layers.ReLU()]
    return keras.Sequential([*stack, layers.GlobalMaxPooling2D(), layers.Dropout(0.3), layers.Dense(len(NAMES))])
