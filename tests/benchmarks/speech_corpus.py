"""Spoken digits among other words, real recordings: corpora whose test speakers neither teacher nor student has heard.

The Free Spoken Digit Dataset has six speakers. Each fold tests on two of them and learns from the other four; choices
are made on the fold CHOICE alone, and the two REPORT folds test on 2,000 digits of the four speakers that it does not
test on. Of the four that a fold learns from, takes 0 to 19 train its teacher, takes 20 to 39 are the students' corpus.

The teacher is a network of ours with some hundred thousand weights and hundreds of independent outputs: the ten digits,
and the pairs of letters in the words of tuxpaint's stamps, which it also learns from (`stamp_words.py`). Words that are
no digits are the noise clips: in training of things that the teacher has not heard, in tests of languages that nobody
has heard. Each clip is one second: a word at one level, somewhere in faint noise.

Digits: github.com/Jakobovski/free-spoken-digit-dataset, CC BY-SA 4.0. Words: tuxpaint-stamps-default, GPL-2. Neither is
part of this repository, and no audio that is made of them may be committed.
"""

import csv
import shutil
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import keras
import numpy as np
import soundfile
from digit_corpus import NAMES, RATE_HZ, Take, read_takes
from song_corpus import LabelledCorpus
from stamp_words import Word, letter_pairs, read_words
from students import LogMel

import pipeline
from pipeline.teachers.batch_teacher import file_digest

SPEECH_MEL = LogMel(rate_hz=RATE_HZ, bands=32, frame=256, hop=128, low_hz=60.0, high_hz=3900.0)
TEACHER_TAKES, STUDENT_TAKES = range(20), range(20, 40)  # of each digit and speaker
PEAK, NOISE_RMS = 0.3, 0.001
UNHEARD = {"choice": ("da", "nl"), "report": ("be", "el")}  # languages of the noise clips of a test
HELD_BACK = 6  # one of so many things is kept from the teacher, for the students' noise clips
NOISE_CLIPS = {"train": 80, "oracle": 80, "test": 200}
RAREST_PAIR = 15  # clips that have it
EPOCHS, BATCH = 30, 32
Part = Literal["train", "oracle", "test"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeechCorpus:
    """One corpus of a fold; `make` gives what `SongCorpus.make` gives.

    archive: of the digits; stamps: the unpacked words; fold: its name, its folder under the work folder.
    unheard: the two speakers that it tests on; part: "train", what students learn from; "oracle", all 50 takes of the
    same speakers and digits, for a student with hard labels of each; "test".
    """

    archive: Path
    stamps: Path
    fold: str
    unheard: tuple[str, str]
    part: Part

    @property
    def name(self) -> str:
        return f"speech_{self.fold}_{self.part}"

    def make(self, work: Path) -> LabelledCorpus:
        """Write and label what is not there yet."""
        folder = work / self.name
        corpus = LabelledCorpus(folder=folder, store="soft_labels", class_file="classes.txt")
        if not corpus.manifest.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            corpus.classes.write_text("".join(f"{name}\n" for name in NAMES), encoding="utf-8")
            write_clips(self._digits(), self._noise(), folder, seed=zlib.crc32(self.name.encode()))
        if not list((folder / corpus.store).glob("_SUCCESS-*.json")):
            label(corpus, self.teacher(work))
        return corpus

    def teacher(self, work: Path) -> Path:
        """The folder of the fold's teacher, trained once: `teacher.keras` and `classes.txt`."""
        folder = work / f"speech_{self.fold}_teacher"
        if not (folder / "teacher.keras").exists():
            folder.mkdir(parents=True, exist_ok=True)
            takes = [one for one in _takes(self.archive) if self._is_teachers(one)]
            model, names = train_teacher(takes, [one for one in _words(self.stamps) if taught(one)])
            (folder / "classes.txt").write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
            model.save(folder / "teacher.keras")
        return folder

    def _is_teachers(self, take: Take) -> bool:
        return take.speaker not in self.unheard and take.take in TEACHER_TAKES

    def _digits(self) -> list[Take]:
        takes = _takes(self.archive)
        if self.part == "test":
            return [one for one in takes if one.speaker in self.unheard]
        heard = [one for one in takes if one.speaker not in self.unheard]
        return heard if self.part == "oracle" else [one for one in heard if one.take in STUDENT_TAKES]

    def _noise(self) -> list[Word]:
        if self.part == "test":
            languages = UNHEARD["choice" if self.fold == "choice" else "report"]
            words = [one for one in _words(self.stamps) if one.language in languages]
        else:
            words = [one for one in _words(self.stamps) if not taught(one) and one.language not in _all_unheard()]
        order = np.random.default_rng(zlib.crc32(self.fold.encode())).permutation(len(words))
        return [words[at] for at in order[: NOISE_CLIPS[self.part]]]


def speech_fold(archive: Path, stamps: Path, fold: str) -> dict[Part, SpeechCorpus]:
    """The corpora of "choice", "report 1" or "report 2"."""
    unheard = {"choice": ("nicolas", "theo"), "report 1": ("george", "jackson"), "report 2": ("lucas", "yweweler")}
    return {
        part: SpeechCorpus(archive=archive, stamps=stamps, fold=fold.replace(" ", ""), unheard=unheard[fold], part=part)
        for part in ("train", "oracle", "test")
    }


def taught(word: Word) -> bool:
    """Whether teachers learn from this word: neither its language nor its thing is kept for others."""
    return word.language not in _all_unheard() and zlib.crc32(Path(word.thing).name.encode()) % HELD_BACK > 0


def _all_unheard() -> set[str]:
    return {language for languages in UNHEARD.values() for language in languages}


@cache
def _takes(archive: Path) -> list[Take]:
    return read_takes(archive)


@cache
def _words(stamps: Path) -> list[Word]:
    return read_words(stamps, rate_hz=RATE_HZ, longest_s=1.0)


def voiced(samples: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(samples,) another voice: faster is higher."""
    grid = np.arange(0, len(samples) - 1, rng.uniform(0.88, 1.15))
    return np.interp(grid, np.arange(len(samples)), samples)


def one_second(samples: np.ndarray, rng: np.random.Generator, noise: float = np.log(NOISE_RMS)) -> np.ndarray:
    """(RATE_HZ,) float32: the word at one level, somewhere in noise of exp(`noise`) RMS."""
    word = samples[:RATE_HZ] * (PEAK / np.abs(samples).max())
    start = rng.integers(0, RATE_HZ - len(word) + 1)
    second = rng.normal(0, np.exp(noise), RATE_HZ)
    second[start : start + len(word)] += word
    return second.astype(np.float32)


def write_clips(digits: Sequence[Take], noise: Sequence[Word], folder: Path, *, seed: int) -> None:
    """One WAV a clip and the manifest; noise clips are annotated as none of the classes."""
    (folder / "audio").mkdir()
    rng = np.random.default_rng(seed)
    clips = [(one.clip_id, one.samples, NAMES[one.digit]) for one in digits]
    clips += [(f"{one.language}-{one.sha256[:12]}", one.samples, "noise") for one in noise]
    rows = []
    for clip_id, samples, name in clips:
        path = f"audio/{clip_id}.wav"
        soundfile.write(folder / path, one_second(samples, rng), RATE_HZ, subtype="PCM_16")
        rows.append((clip_id, path, name))
    with (folder / "data_manifest.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([("clip_id", "path", "label"), *rows])


def label(corpus: LabelledCorpus, teacher: Path) -> None:
    """What `softlabels run --teacher keras` does; all of the teacher's outputs are stored."""
    model = teacher / "teacher.keras"
    choice = pipeline.TeacherChoice(
        kind="keras",
        model=str(model),
        model_sha256=file_digest(model),
        labels=str(teacher / "classes.txt"),
        rate_hz=RATE_HZ,
        activation="sigmoid",
        outputs="logits",
    )
    pipeline.run(corpus.manifest, corpus.folder / corpus.store, teacher=choice, jobs=1)


def train_teacher(takes: Sequence[Take], words: Sequence[Word]) -> tuple[keras.Model, list[str]]:
    """A network from one second of waveform to logits, and the names of its outputs.

    A spoken digit is its digit and the letters of its English name; a word is the letters of its text. Digits come
    twice as often as words, each time with another voice, shift and noise.
    """
    keras.utils.set_random_seed(7)
    rng = np.random.default_rng(7)
    spelled = [letter_pairs(word.text) for word in words]
    pairs = sorted(
        pair for pair, count in Counter(one for each in spelled for one in each).items() if count >= RAREST_PAIR
    )
    names = [*NAMES, *(f"letters {pair}" for pair in pairs)]
    heard = [({NAMES[one.digit]}, letter_pairs(NAMES[one.digit])) for one in takes] * 2 + [
        (set(), one) for one in spelled
    ]
    y = np.array(
        [[name in digit for name in NAMES] + [pair in letters for pair in pairs] for digit, letters in heard],
        np.float32,
    )
    samples = [*(one.samples for one in takes)] * 2 + [one.samples for one in words]
    teacher = build_teacher(y)
    rate = keras.optimizers.schedules.CosineDecay(3e-3, EPOCHS * -(-len(y) // BATCH))
    teacher.compile(keras.optimizers.Adam(rate), loss=keras.losses.BinaryCrossentropy(from_logits=True))
    for _ in range(EPOCHS):
        x = np.stack(
            [one_second(voiced(one, rng), rng, noise=rng.uniform(-8, -5)) for one in samples]
        )  # (clips, RATE_HZ)
        teacher.fit(x, y, batch_size=BATCH, verbose=0)
    return teacher, names


def build_teacher(y: np.ndarray) -> keras.Model:
    """The spectrogram is inside; the last layer starts at the outputs' own frequencies, most of which are rare."""
    layers = keras.layers
    mel = layers.MelSpectrogram(256, 80, sampling_rate=RATE_HZ, num_mel_bins=48, top_db=60.0)
    level_free = layers.LayerNormalization(axis=(1, 2, 3), center=False, scale=False)
    stack: list[keras.Layer] = [layers.Input((RATE_HZ,)), mel, layers.Reshape((48, -1, 1)), level_free]
    for width in (32, 64, 128):
        stack += [layers.Conv2D(width, 3, 2, "same", use_bias=False), layers.BatchNormalization(momentum=0.9)]
        stack += [layers.ReLU()]
    mean = y.mean(axis=0, dtype=np.float64)
    prior = keras.initializers.Constant(np.log(mean / (1 - mean)).astype(np.float32))
    head = layers.Dense(y.shape[1], bias_initializer=prior)
    return keras.Sequential([*stack, layers.GlobalMaxPooling2D(), layers.Dropout(0.3), head])
