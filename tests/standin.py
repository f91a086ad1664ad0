"""A stand-in teacher for speed: three classes, 0.1 s windows at 8 kHz, logits from simple statistics."""

import hashlib
import multiprocessing
import os
import pathlib
import signal
import time
from dataclasses import dataclass

import numpy as np

from softlabels import ClassList
from softlabels.audio.decode import AudioBudget
from softlabels.records.spec import LabelSpec
from softlabels.windows import WindowSpec

SPEC = LabelSpec(
    teacher="t",
    teacher_digest="d",
    class_digest="c",
    activation="sigmoid",
    window=WindowSpec(rate_hz=8, window_samples=8, hop_samples=8),
    shard_windows=4,
)  # the smallest spec, for tests that need no teacher


class StandIn:
    name = "stand-in"
    classes = ClassList(("Aus aus_Alpha", "Bus bus_Beta", "Cus cus_Gamma"))
    rate_hz = 8000
    window_samples = 800
    activation = "sigmoid"
    outputs = "logits"
    batch_size = 4
    notice = ""
    digest = hashlib.sha256(b"stand-in 1").hexdigest()

    def score(self, windows: np.ndarray) -> np.ndarray:
        """(batch, samples) -> (batch, 3): level, first sample, sign changes."""
        level = np.log(np.maximum(np.abs(windows).max(axis=1), 1e-6))
        changes = (np.diff(np.signbit(windows), axis=1).sum(axis=1) - 100) / 50
        return np.stack([level, windows[:, 0] * 4, changes], axis=1).astype(np.float32)


def teacher() -> StandIn:
    return StandIn()


class Embedded(StandIn):
    """Answers five numbers of a window beside its scores; as many windows as it scored with them are in `asked`."""

    embedding_width = 5
    asked = 0

    def score_with_embedding(self, windows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(batch, samples) -> (batch, 3), (batch, 5): odd ones where a window begins with 0.25, 0.5 and the like."""
        type(self).asked += len(windows)
        numbers = windows[:, 1:6].astype(np.float32) * np.float32(3) + np.float32(0.7)
        for first, number in ((0.5, np.nan), (0.25, -np.inf), (0.75, 3.4e38), (0.875, 7e4), (0.625, 1e-6)):
            numbers[windows[:, 0] == first, 2] = number
            numbers[windows[:, 0] == first, :2] *= number if number == 1e-6 else 1
        return self.score(windows), numbers


def embedded() -> Embedded:
    return Embedded()


class NotFinite(StandIn):
    """Answers NaN to windows whose first sample is exactly 0.5."""

    digest = hashlib.sha256(b"not finite").hexdigest()

    def score(self, windows: np.ndarray) -> np.ndarray:
        scores = super().score(windows)
        scores[windows[:, 0] == 0.5] = np.nan
        return scores


def not_finite() -> NotFinite:
    return NotFinite()


class WrongWidth(StandIn):
    digest = hashlib.sha256(b"wrong width").hexdigest()

    def score(self, windows: np.ndarray) -> np.ndarray:
        return super().score(windows)[:, :2]


def wrong_width() -> WrongWidth:
    return WrongWidth()


def no_teacher() -> object:
    return object()


class Poisoned(StandIn):
    """Does something dreadful to windows that begin with 0.75 (dies), 0.625 (hangs) or 0.875 (raises) exactly."""

    digest = hashlib.sha256(b"poisoned").hexdigest()

    def score(self, windows: np.ndarray) -> np.ndarray:
        first = set(windows[:, 0].tolist())
        if 0.75 in first:
            os.kill(os.getpid(), signal.SIGSEGV)
        if 0.625 in first:
            time.sleep(3600)
        if 0.875 in first:
            raise RuntimeError("what an odd window")
        return super().score(windows)


def poisoned() -> Poisoned:
    return Poisoned()


class DiesOnce(StandIn):
    """Is killed the first time a window begins with 0.75, as by an operator; the file STANDIN_ONCE remembers."""

    digest = hashlib.sha256(b"dies once").hexdigest()

    def score(self, windows: np.ndarray) -> np.ndarray:
        once = pathlib.Path(os.environ["STANDIN_ONCE"])
        if 0.75 in windows[:, 0] and not once.exists():
            once.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().score(windows)


def dies_once() -> DiesOnce:
    return DiesOnce()


class DiesAlways(StandIn):
    """A machine on which nothing can be scored but for a moment: even control windows kill it."""

    digest = hashlib.sha256(b"dies always").hexdigest()

    def score(self, windows: np.ndarray) -> np.ndarray:
        if os.environ.get("STANDIN_DIES") and multiprocessing.current_process().name.startswith("Loky"):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().score(windows)


def dies_always() -> DiesAlways:
    return DiesAlways()


class Slow(StandIn):
    """Takes a tenth of a second a batch, and appends a line to the file STANDIN_SCORED for every window it scores."""

    digest = hashlib.sha256(b"slow").hexdigest()

    def score(self, windows: np.ndarray) -> np.ndarray:
        time.sleep(0.1)
        scored = os.environ.get("STANDIN_SCORED")
        if scored:
            with open(scored, "a") as file:
                file.write("".join(f"{hashlib.sha256(window.tobytes()).hexdigest()}\n" for window in windows))
        return super().score(windows)


def slow() -> Slow:
    return Slow()


class Bands(StandIn):
    """Sixty classes: how loud 60 bands are. Class 0 is an unsure one of low tones."""

    digest = hashlib.sha256(b"bands").hexdigest()
    classes = ClassList(tuple(f"class {c}" for c in range(60)))

    def score(self, windows: np.ndarray) -> np.ndarray:
        power = np.abs(np.fft.rfft(windows, axis=1))[:, 1:121].reshape(len(windows), 60, 2).sum(axis=2)
        scores = np.log(power + 1.0) - 3
        scores[:, 0] = 0.3 * (scores[:, :20].max(axis=1) - scores[:, 30:].max(axis=1)) - 2
        return scores.astype(np.float32)


def bands() -> Bands:
    return Bands()


class Wide(StandIn):
    """40 classes whose logits are sums of a few samples, as those of a network are of its embedding."""

    classes = ClassList(tuple(f"Genus{i} species{i}_Name {i}" for i in range(40)))
    digest = hashlib.sha256(b"wide").hexdigest()

    def score(self, windows: np.ndarray) -> np.ndarray:
        said = windows[:, :800:50].astype(np.float64) * 6  # (batch, 16)
        mix = np.random.Generator(np.random.PCG64(7)).integers(-8, 9, (16, 40)) / 8
        return (said[:, :, None] * mix).sum(axis=1).astype(np.float32) - 3


def wide() -> Wide:
    return Wide()


class EmbeddedWide(Wide):
    embedding_width, asked = 5, 0
    score_with_embedding = Embedded.score_with_embedding


def embedded_wide() -> EmbeddedWide:
    return EmbeddedWide()


class PoisonedWide(Wide):
    """The same, and dies of windows that begin with 0.75 exactly."""

    def score(self, windows: np.ndarray) -> np.ndarray:
        if 0.75 in windows[:, 0].tolist():
            os.kill(os.getpid(), signal.SIGSEGV)
        return super().score(windows)


def poisoned_wide() -> PoisonedWide:
    return PoisonedWide()


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadlyBudget(AudioBudget):
    """What a decoder does to the process that it is in: dies of 8001 Hz, hangs on 8002, aborts on 8003."""

    def check(self, rate_hz: int, channels: int, frames: int) -> None:
        if rate_hz == 8001:
            os.kill(os.getpid(), signal.SIGSEGV)
        if rate_hz == 8002:
            time.sleep(3600)
        if rate_hz == 8003:
            os.abort()
        AudioBudget.check(self, rate_hz, channels, frames)
