"""From notes to samples: tones, echo, noise. Arrays are (samples,) float64 at `RATE_HZ`, full scale 1.

Every array comes out the same on any x86-64 machine to about one part in 1e15: sines in float64 may differ in
the last bit between processors; noise is summed from random integers, exactly; there is no Fourier transform,
no BLAS, no normal deviate (numpy may change its stream). `make_corpus.py` rounds to int16, and so hides it.
"""

from collections.abc import Iterable

import numpy as np
from songs import Note

RATE_HZ = 24_000
FADE_S = 0.02
BACKGROUNDS = ("hiss", "wind", "rain", "hum")


def tone(note: Note, *, pitch: float, tempo: float) -> np.ndarray:
    """One note with raised-cosine fades; `pitch` multiplies hz, `tempo` divides seconds.

    Returns: (samples,) float64, peak about `note.level`.
    """
    duration_s = note.duration_s / tempo
    t = np.arange(round(duration_s * RATE_HZ)) / RATE_HZ  # (samples,) seconds
    corners_s = np.arange(len(note.hz)) * duration_s / max(1, len(note.hz) - 1)
    cycles = np.cumsum(np.interp(t, corners_s, note.hz)) * (pitch / RATE_HZ)  # the integral of pitch
    wave = np.sin(2 * np.pi * cycles)
    for harmonic, level in enumerate(note.overtones, start=2):
        wave = wave + level * np.sin(2 * np.pi * harmonic * cycles)
    fade_s = min(FADE_S, duration_s / 3)
    edge = np.clip(np.minimum(t, duration_s - t) / fade_s, 0.0, 1.0)
    return note.level * wave * (0.5 - 0.5 * np.cos(np.pi * edge))


def phrase(notes: Iterable[Note], *, pitch: float, tempo: float) -> np.ndarray:
    """All notes of one phrase on one time line. Returns: (samples,) float64."""
    placed = [(round(note.onset_s / tempo * RATE_HZ), tone(note, pitch=pitch, tempo=tempo)) for note in notes]
    line = np.zeros(max(start + len(wave) for start, wave in placed))
    for start, wave in placed:
        line[start : start + len(wave)] += wave
    return line


def add_at(line: np.ndarray, wave: np.ndarray, start: int) -> None:
    """Add `wave` to `line` in place from sample `start`; what would run over the end is cut off."""
    heard = wave[: max(0, len(line) - start)]
    line[start : start + len(heard)] += heard


def echo(dry: np.ndarray, rng: np.random.Generator, *, level: float, decay_s: float) -> np.ndarray:
    """A wood's echo: 24 reflections, random in delay and sign, amplitude `level` * exp(-delay / decay_s)."""
    delays_s = rng.uniform(0.01, 3 * decay_s, size=24)  # (24,)
    signs = 2 * rng.integers(0, 2, size=24) - 1  # (24,) -1 or 1
    wet = dry.copy()
    for delay_s, sign in zip(delays_s, signs, strict=True):
        add_at(wet, sign * level * np.exp(-delay_s / decay_s) * dry, round(delay_s * RATE_HZ))
    return wet


def pink_noise(samples: int, rng: np.random.Generator, *, octaves: range) -> np.ndarray:
    """Voss-McCartney noise: a row of random integers per octave, row k held for 2**k samples, summed exactly.

    Args:
      octaves: range(0, 10) is pink down to 23 hz; leaving out the first ones removes the treble.
    Returns: (samples,) float64 of standard deviation 1.
    """
    total = np.zeros(samples, dtype=np.int64)
    for octave in octaves:
        row = rng.integers(-1000, 1001, size=samples // 2**octave + 1)
        total += np.repeat(row, 2**octave)[:samples]
    return total / (577.6 * len(octaves) ** 0.5)  # 577.6 = standard deviation of one row


def gusts(samples: int, rng: np.random.Generator) -> np.ndarray:
    """A slow random gain between 0.15 and 1, a corner every half second. Returns: (samples,) float64."""
    corner = RATE_HZ // 2
    heights = rng.uniform(0.15, 1.0, size=samples // corner + 2)
    return np.interp(np.arange(samples), np.arange(len(heights)) * corner, heights)


def drops(samples: int, rng: np.random.Generator, *, per_s: float) -> np.ndarray:
    """Clicks of 2 to 6 ms at random times, each a decaying burst of noise. Returns: (samples,) float64."""
    line = np.zeros(samples)
    for _ in range(round(per_s * samples / RATE_HZ)):
        length = int(rng.integers(RATE_HZ // 500, RATE_HZ // 160))
        burst = rng.uniform(-1.0, 1.0, size=length) * np.exp(-np.arange(length) / (length / 4))
        add_at(line, rng.uniform(0.2, 1.0) * burst, int(rng.integers(0, samples)))
    return line


def hum(samples: int, rng: np.random.Generator) -> np.ndarray:
    """Mains or a motor: a fundamental of 50 to 120 hz and five harmonics. Returns: (samples,) float64."""
    cycles = rng.uniform(50, 120) * np.arange(samples) / RATE_HZ
    levels = rng.uniform(0.2, 1.0, size=6)
    waves = [level * np.sin(2 * np.pi * (k + 1) * cycles) for k, level in enumerate(levels)]
    return np.sum(waves, axis=0) / 2  # (6, samples) -> (samples,)


def background(kind: str, samples: int, rng: np.random.Generator) -> np.ndarray:
    """One of `BACKGROUNDS`. Returns: (samples,) float64, standard deviation near 1."""
    if kind == "hiss":
        return pink_noise(samples, rng, octaves=range(10))
    if kind == "wind":
        return 1.5 * gusts(samples, rng) * pink_noise(samples, rng, octaves=range(4, 12))
    if kind == "rain":
        return 0.5 * pink_noise(samples, rng, octaves=range(4)) + 8 * drops(samples, rng, per_s=25)
    if kind == "hum":
        return hum(samples, rng) + 0.3 * pink_noise(samples, rng, octaves=range(8))
    raise ValueError(f"background: expected one of {', '.join(BACKGROUNDS)}, got {kind!r}")
