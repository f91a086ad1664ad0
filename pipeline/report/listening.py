"""Windows as a person takes them in: a few seconds of sound and a spectrogram, both as data: URIs."""

import base64
import io
import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import soundfile

from softlabels.batches.rows import WindowSound
from softlabels.batches.window_audio import WindowAudio
from softlabels.errors import AudioError, EnvironmentTrouble
from softlabels.storage.location import Location
from softlabels.store.reader import StoreReader

MAX_RATE_HZ, MAX_S = 24_000, 10.0  # what a page of 15 MB has room for, some forty times
_FRAME, _COLUMNS = 512, 320
_RANGE_DB, _BACKGROUND = 80, 0.3
_LOUD = 0.5  # of full scale: a distant song is raised to it, at most by:
_MAX_GAIN = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Extract:
    """A window. sound, picture: data: URIs, "" where there is none; note: why there is none.

    seconds: of sound; top_khz: the upper edge of the picture, whose lower one is 0. khz, times: marks of its axes, see
    `axis_marks`; times are seconds in the recording.
    """

    sound: str = ""
    picture: str = ""
    note: str = ""
    seconds: float = 0.0
    top_khz: float = 0.0
    khz: tuple[tuple[str, float], ...] = ()
    times: tuple[tuple[str, float], ...] = ()


class Listening:
    """Reads windows of a store out of their recordings, digests checked; a recording that is gone is told, not raised.

    Args:
      root: where the recordings are.
      paths: clip_id -> path below it, of clips that a manifest has elsewhere than the store's plan.
    """

    def __init__(self, store: StoreReader, root: Location, paths: Mapping[str, str] | None = None) -> None:
        rate_hz = min(MAX_RATE_HZ, store.spec.window.rate_hz)
        self._sounds = StoreSounds(store, root, paths or {})
        self._audio = WindowAudio(self._sounds, rate_hz=rate_hz)

    def path_of(self, window: int) -> str:
        """The path of a window's recording, below the root."""
        return self._sounds.sound_of(window).path

    def extract(self, window: int) -> Extract:
        """One window of `StoreIndex`, its first ten seconds if it is longer."""
        rate_hz = self._audio.rate_hz
        try:
            samples = self._audio.read([window])[0][: round(MAX_S * rate_hz)]
        except (AudioError, EnvironmentTrouble) as e:
            return Extract(note=f"no sound: {e}")
        start_s, seconds, top_khz = self._sounds.start_s(window), len(samples) / rate_hz, rate_hz / 2000
        return Extract(
            sound=_uri("audio/flac", _flac(samples, rate_hz)),
            picture=_uri("image/png", _png(spectrogram(samples))),
            seconds=seconds,
            top_khz=top_khz,
            khz=axis_marks(0, top_khz),
            times=axis_marks(start_s, start_s + seconds),
        )


class StoreSounds:
    """The windows of a store as rows that can be heard, see `SoundRows`: row numbers are entries of its index."""

    def __init__(self, store: StoreReader, root: Location, paths: Mapping[str, str]) -> None:
        self.window, self.root, self._index, self._paths = store.spec.window, root, store.index, paths

    def sound_of(self, row: int) -> WindowSound:
        """Where the sound of a window is."""
        (clip,) = self._index.clips.slice(int(self._index.stored_clip[row]), 1).to_pylist()
        clip["path"] = self._paths.get(clip["clip_id"], clip["path"])
        return WindowSound.of_clip(clip, int(self._index.window_index[row]), self.window)

    def sounds_of(self, rows: np.ndarray) -> list[WindowSound]:
        """Where the sound of each window is."""
        return [self.sound_of(row) for row in rows]

    def start_s(self, row: int) -> float:
        """Where a window begins in its recording, in seconds."""
        return float(self._index.start_s(row))


def spectrogram(samples: np.ndarray) -> np.ndarray:
    """(samples,) -> (257, at most 320) float32, high frequencies first.

    Decibels from 0 to 1: the loudest point is 1, the quietest 30 % (or what is 80 dB below it) are 0.
    """
    padded = np.pad(samples, (0, max(0, _FRAME - len(samples))))
    frames = np.lib.stride_tricks.sliding_window_view(padded, _FRAME)
    frames = frames[:: max(1, -(-len(frames) // _COLUMNS))]  # (columns, frame)
    power = np.abs(np.fft.rfft(frames * np.hanning(_FRAME), axis=1)) ** 2
    db = 10 * np.log10(power + 1e-10)
    loudest = db.max()
    floor = max(float(np.quantile(db, _BACKGROUND)), loudest - _RANGE_DB)
    return np.clip((db - floor) / max(loudest - floor, 1), 0, 1).T[::-1].astype(np.float32)


def axis_marks(lowest: float, highest: float) -> tuple[tuple[str, float], ...]:
    """Round numbers between two ends, two to six of them: (text, share of the way from the lowest to the highest).

    Example:
      >>> axis_marks(0, 12)
      (('0', 0.0), ('5', 0.4166666666666667), ('10', 0.8333333333333334))
    """
    span = highest - lowest
    step = next(
        step
        for power in itertools.count(-6)
        for step in (10.0**power, 2 * 10.0**power, 5 * 10.0**power)
        if span <= 4 * step
    )
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    numbers = range(math.ceil(lowest / step - 1e-6), math.floor(highest / step + 1e-6) + 1)
    return tuple((f"{n * step:.{decimals}f}", min(1.0, max(0.0, (n * step - lowest) / span))) for n in numbers)


def _flac(samples: np.ndarray, rate_hz: int) -> bytes:
    gain = min(_MAX_GAIN, _LOUD / max(float(np.abs(samples).max(initial=0)), 1e-9))
    sink = io.BytesIO()
    soundfile.write(sink, np.clip(samples * gain, -1, 1), rate_hz, format="FLAC", subtype="PCM_16")
    return sink.getvalue()


def spectrogram_colours(steps: int = 9) -> tuple[str, ...]:
    """The colours of a spectrogram from 0 to 1, for a legend, as CSS has them."""
    return tuple("rgb({} {} {})".format(*shade) for shade in _shades(np.linspace(0, 1, steps)).tolist())


def _shades(values: np.ndarray) -> np.ndarray:
    """(...) from 0 to 1 -> (..., 3) uint8."""
    from matplotlib import colormaps

    return (colormaps["magma"](values)[..., :3] * 255).astype(np.uint8)


def _png(picture: np.ndarray) -> bytes:
    from matplotlib import image

    shades = _shades(picture)
    sink = io.BytesIO()
    image.imsave(sink, shades, format="png")
    return sink.getvalue()


def _uri(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
