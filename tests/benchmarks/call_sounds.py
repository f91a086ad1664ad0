"""What calls are made of: pulses, harmonic stacks, noise bands, vibrato. Arrays are (samples,) float64 at `RATE_HZ`.

As in `tests/corpus/sounds.py`, of which nothing is repeated here: no Fourier transform, no BLAS, no normal deviate, so
that a clip is the same on any x86-64 machine. Not here: which animal calls how (`calls.py`), files (`call_corpus.py`).
"""

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "corpus"))
from sounds import RATE_HZ, add_at

HIGHEST_HZ = 11_000  # partials above are left out: they would fold back at half of RATE_HZ


def glide(hz: Sequence[float], seconds: float) -> np.ndarray:
    """A pitch through corners at equal steps. Returns: (samples,) hz."""
    samples = max(2, round(seconds * RATE_HZ))
    return np.interp(np.linspace(0, len(hz) - 1, samples), np.arange(len(hz)), hz)


def vibrato(pitch: np.ndarray, *, rate_hz: float, depth: float) -> np.ndarray:
    """The pitch swinging `rate_hz` times a second by `depth` (a share of it) to either side. Returns: (samples,) hz."""
    return pitch * (1 + depth * np.sin(2 * np.pi * rate_hz * np.arange(len(pitch)) / RATE_HZ))


def wander(samples: int, rng: np.random.Generator, *, rate_hz: float) -> np.ndarray:
    """Straight lines between random heights, `rate_hz` of them a second. Returns: (samples,) in [-1, 1]."""
    corners = int(samples * rate_hz / RATE_HZ) + 2
    return np.interp(np.arange(samples) * (rate_hz / RATE_HZ), np.arange(corners), rng.uniform(-1, 1, corners))


def stack(pitch: np.ndarray, levels: Sequence[float]) -> np.ndarray:
    """Harmonics over a pitch: levels of the fundamental, the 2nd, 3rd ... partial. Returns: (samples,) float64."""
    cycles = np.cumsum(pitch) / RATE_HZ
    wave = np.zeros(len(pitch))
    for partial, level in enumerate(levels, start=1):
        if level and partial * pitch.max() < HIGHEST_HZ:
            wave += level * np.sin(2 * np.pi * partial * cycles)
    return wave


def formants(fundamental_hz: float, peaks: Iterable[tuple[float, float, float]], partials: int) -> np.ndarray:
    """Levels of the partials under resonances, each (hz, width_hz, level). Returns: (partials,) float64."""
    hz = fundamental_hz * np.arange(1, partials + 1)
    return sum(level / (1 + ((hz - centre) / width) ** 2) for centre, width, level in peaks)


def noise_band(samples: int, rng: np.random.Generator, *, centre_hz: float, width_hz: float) -> np.ndarray:
    """Noise around a frequency: slow random amplitudes on a carrier and its quadrature. Returns: (samples,) float64."""
    angle = 2 * np.pi * centre_hz * np.arange(samples) / RATE_HZ
    in_phase, quadrature = (wander(samples, rng, rate_hz=width_hz) for _ in range(2))
    return in_phase * np.cos(angle) + quadrature * np.sin(angle)


def shaped(wave: np.ndarray, *, attack: float = 0.2, release: float = 0.3) -> np.ndarray:
    """Rising in its first `attack`, falling in its last `release` (shares of its length), raised cosines."""
    at = (np.arange(len(wave)) + 0.5) / len(wave)
    edge = np.minimum(np.clip(at / attack, 0, 1), np.clip((1 - at) / release, 0, 1))
    return wave * (0.5 - 0.5 * np.cos(np.pi * edge))


def struck(wave: np.ndarray, *, decay_s: float) -> np.ndarray:
    """Loud at once, then dying away by e every `decay_s`; the first millisecond is a ramp."""
    t = np.arange(len(wave)) / RATE_HZ
    return wave * np.exp(-t / decay_s) * np.minimum(1, t / 0.001)


def place(sounds: Iterable[tuple[float, np.ndarray]], seconds: float) -> np.ndarray:
    """Sounds at their onsets (seconds) on one line of that length. Returns: (samples,) float64."""
    line = np.zeros(round(seconds * RATE_HZ))
    for onset_s, wave in sounds:
        add_at(line, wave, round(onset_s * RATE_HZ))
    return line


def train(pulse: np.ndarray, count: int, period_s: float, levels: Sequence[float] = (1.0,)) -> np.ndarray:
    """The same pulse `count` times, levels straight through their corners. Returns: (samples,), `count` periods."""
    heights = np.interp(np.linspace(0, len(levels) - 1, count), np.arange(len(levels)), levels)
    return place(((i * period_s, height * pulse) for i, height in enumerate(heights)), count * period_s)
