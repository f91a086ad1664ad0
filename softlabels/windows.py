"""Time in whole samples: how a clip is laid out in windows. Seconds are turned into samples here, once.

clip    |-----------------------------------|
windows |--- 0 ---|--- 1 ---|--- 2 ---|--- 3 ..000|      overlap 0: the last one is padded with zeros
        |--- 0 ---|
             |--- 1 ---|                                overlap 0.5: half a window shared
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np


def rescale_samples(count: int, *, from_hz: int, to_hz: int) -> int:
    """How many samples at `to_hz` a stretch of `count` samples at `from_hz` has, half rounded up."""
    return (2 * count * to_hz + from_hz) // (2 * from_hz)


MAX_RATE_HZ = 10_000_000  # beyond any recorder; a store that says more would have us count for ever


def seconds_to_samples(seconds: float, rate_hz: int) -> int:
    """The whole sample nearest to a time."""
    return round(seconds * rate_hz)


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowSpec:
    """The grid on which the teacher scores a clip.

    The windows of a clip start at whole multiples of the hop; the last one is the first that reaches
    the end of the clip, so every sample is heard and no window holds only what the one before it held.
    """

    rate_hz: int
    window_samples: int
    hop_samples: int

    def __post_init__(self) -> None:
        numbers = (self.rate_hz, self.window_samples, self.hop_samples)
        if not all(isinstance(n, int | np.integer) for n in numbers) or not 1 <= self.rate_hz <= MAX_RATE_HZ:
            raise ValueError(f"window: expected whole numbers, and a rate from 1 to {MAX_RATE_HZ} Hz, got {numbers}")
        if not 0 < self.hop_samples <= self.window_samples:
            raise ValueError(
                f"overlap must be at least 0 and shorter than the window of {self.window_s:g} s, "
                f"got {self.window_s - self.hop_samples / self.rate_hz:g} s"
            )

    @classmethod
    def from_overlap(cls, rate_hz: int, window_samples: int, *, overlap_s: float) -> "WindowSpec":
        """The grid whose neighbouring windows share `overlap_s` seconds."""
        if not math.isfinite(overlap_s):
            raise ValueError(f"overlap must be a number of seconds, got {overlap_s}")
        hop = window_samples - seconds_to_samples(overlap_s, rate_hz)
        return cls(rate_hz=rate_hz, window_samples=window_samples, hop_samples=hop)

    @property
    def window_s(self) -> float:
        return self.window_samples / self.rate_hz

    @property
    def hop_s(self) -> float:
        return self.hop_samples / self.rate_hz

    def starts(self, clip_start: Any, clip_rate_hz: Any, window_index: Any) -> Any:
        """Where windows begin: samples at `rate_hz` from the start of the file. One definition, from plan to crop.

        Args:
          clip_start, clip_rate_hz: the clip's first sample, at the file's own rate; of a file that cannot be read the
            rate is 0, and the clip counts from 0. window_index: which window of the clip. Numbers or arrays.
        """
        own_hz = np.maximum(clip_rate_hz, 1)
        first = np.where(
            np.asarray(clip_rate_hz) > 0, rescale_samples(clip_start, from_hz=own_hz, to_hz=self.rate_hz), 0
        )
        return first + np.asarray(window_index, np.int64) * self.hop_samples

    def centre_us(self, start: np.ndarray) -> np.ndarray:
        """(windows,) int64: the centre of windows that begin at these samples, in microseconds of the file."""
        twice = (2 * start + self.window_samples) * 1_000_000  # divided by twice the rate, half rounded up
        return (twice + self.rate_hz) // (2 * self.rate_hz)

    def count(self, clip_samples: int) -> int:
        """How many windows a clip of so many samples at `rate_hz` has (0 for an empty clip)."""
        if clip_samples <= 0:
            return 0
        beyond_first = max(0, clip_samples - self.window_samples)
        return 1 + -(-beyond_first // self.hop_samples)


def cut_windows(blocks: Iterable[np.ndarray], window: WindowSpec, count: int) -> Iterator[np.ndarray]:
    """Cut a stream of samples into windows; what is missing at the end is padded with zeros.

    Args:
      blocks: (samples,) float32 each, the first sample being the first of the first window.
    Yields: (window_samples,) float32, `count` times.
    """
    pieces, length = [np.zeros(0, np.float32)], 0
    for block in blocks:
        pieces.append(block)
        length += len(block)
        if length < window.window_samples:
            continue
        held = np.concatenate(pieces)
        while count and len(held) >= window.window_samples:
            yield held[: window.window_samples]
            held = held[window.hop_samples :]
            count -= 1
        pieces, length = [held], len(held)
    held = np.concatenate(pieces)
    for _ in range(count):
        yield np.pad(held, (0, window.window_samples - len(held)))
        held = held[window.hop_samples :]


def stretch(start_s: Any, end_s: Any, frames: Any, rate_hz: Any) -> tuple[np.ndarray, np.ndarray]:
    """Where clips lie in their files: first sample and the one behind the last, (clips,) int64 each.

    Args:
      start_s, end_s: (clips,) seconds as in the manifest; NaN as end_s is the end of the file.
      frames, rate_hz: (clips,) of the files. An end beyond the file is its end.
    """
    start_s, end_s, rate_hz = (np.asarray(values, np.float64) for values in (start_s, end_s, rate_hz))
    whole = np.isnan(end_s)
    end = np.where(whole, frames, np.minimum(np.rint(np.where(whole, 0, end_s) * rate_hz), frames))
    return np.rint(start_s * rate_hz).astype(np.int64), end.astype(np.int64)


_SLOT = 1 << 40  # microseconds a clip may last (12 days), so that clip and time are one number


def places(clip: np.ndarray, centre_us: np.ndarray | int) -> np.ndarray:
    """(windows,) int64: number of a clip and time in it as one number. centre_us: as `WindowSpec` gives it, or 0."""
    return clip.astype(np.int64) * _SLOT + centre_us


def meet(a: np.ndarray, b: np.ndarray, *, window_a_s: float, window_b_s: float) -> np.ndarray:
    """Which window of B each window of A meets.

    Args:
      a, b: their places; those of B ascend. window_a_s, window_b_s: how long the windows are; 0 for whole clips.
    Returns: (windows of A,) int64 positions in B, -1 where there is none. Of two that are equally near, the earlier.
    """
    if not len(b):
        return np.full(len(a), -1)
    after = np.searchsorted(b, a)
    before, after = np.maximum(after - 1, 0), np.minimum(after, len(b) - 1)
    nearest = np.where(a - b[before] <= np.abs(b[after] - a), before, after)
    apart_s = np.abs(b[nearest] - a) / 1e6  # of another clip: 12 days
    # Windows whose centres are d apart share (long + short) / 2 - d, which is half of the short one at d = long / 2.
    return np.where(apart_s <= max(window_a_s, window_b_s) / 2 + 1e-5, nearest, -1)
