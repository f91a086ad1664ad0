"""The pictures that students look at, in NumPy alone."""

from dataclasses import dataclass
from functools import cache

import numpy as np


@dataclass(frozen=True, slots=True, kw_only=True)
class LogMel:
    """Log-mel pictures: what a microcontroller computes. `LogMel(...)(audio)` is the `features` of `make_dataset`."""

    rate_hz: int = 24_000
    bands: int = 48
    frame: int = 1024  # samples
    hop: int = 768  # samples
    low_hz: float = 150.0
    high_hz: float = 11_000.0

    def __call__(self, audio: np.ndarray) -> np.ndarray:
        """(batch, samples) -> (batch, frames, bands, 1) float32."""
        frames = np.lib.stride_tricks.sliding_window_view(audio, self.frame, axis=1)[:, :: self.hop]
        window = np.hanning(self.frame).astype(np.float32)
        power = np.abs(np.fft.rfft(frames * window)) ** 2  # (batch, frames, bins)
        banded = power.astype(np.float32) @ _mel_weights(self)
        level = np.log(banded + 1e-4)  # (batch, frames, bands)
        level -= np.median(level, axis=1, keepdims=True)  # the steady background goes, as it would in a recorder
        return (level / 4)[..., None].astype(np.float32)


@cache
def _mel_weights(mel: LogMel) -> np.ndarray:
    """(bins, bands) float32 triangles, equally wide in mel."""
    ends = 2595 * np.log10(1 + np.array([mel.low_hz, mel.high_hz]) / 700)
    corners_hz = 700 * (10 ** (np.linspace(*ends, mel.bands + 2) / 2595) - 1)  # (bands + 2,)
    bins_hz = np.fft.rfftfreq(mel.frame, 1 / mel.rate_hz)[:, None]  # (bins, 1)
    low, middle, high = corners_hz[:-2], corners_hz[1:-1], corners_hz[2:]
    rising, falling = (bins_hz - low) / (middle - low), (high - bins_hz) / (high - middle)
    return np.maximum(0, np.minimum(rising, falling)).astype(np.float32)
