"""Time in whole samples: how a clip is laid out in windows. Seconds are turned into samples here, once.

clip    |-----------------------------------|
windows |--- 0 ---|--- 1 ---|--- 2 ---|--- 3 ..000|      overlap 0: the last one is padded with zeros
        |--- 0 ---|
             |--- 1 ---|                                overlap 0.5: half a window shared
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np


def rescale_samples(count: int, *, from_hz: int, to_hz: int) -> int:
    """How many samples at `to_hz` a stretch of `count` samples at `from_hz` has, half rounded up."""
    return (2 * count * to_hz + from_hz) // (2 * from_hz)


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
      window: the grid.
      count: how many windows to cut.
    Yields: (window_samples,) float32, `count` times.
    """
    held = np.zeros(0, np.float32)
    for block in blocks:
        held = np.concatenate([held, block])
        while count and len(held) >= window.window_samples:
            yield held[: window.window_samples]
            held = held[window.hop_samples :]
            count -= 1
    for _ in range(count):
        yield np.pad(held, (0, window.window_samples - len(held)))
        held = held[window.hop_samples :]
