"""From an audio file to mono samples at the rate somebody needs: the only decoder path of the project.

Labelling and training read audio through here, so the student gets what the teacher got. The file is
streamed in blocks of a fixed size: decode -> mean of the channels -> soxr HQ -> the samples asked for. Where
a stretch begins never changes its samples: a file is entered in the middle only where no resampling is
needed and container and codec seek to the exact sample; otherwise it is streamed from its start.
"""

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import soundfile
import soxr

from softlabels.audio.containers.container import Container, container_of, knows_length, read_structure, seeks_exactly
from softlabels.audio.containers.structure import Structure
from softlabels.audio.faults import AudioBytes, decoder_faults, os_errors_explained
from softlabels.audio.tape import Tape, TapeDeck
from softlabels.digests import known_sha256, sha256_of_file
from softlabels.errors import AudioError, EnvironmentTrouble
from softlabels.windows import rescale_samples

if TYPE_CHECKING:
    from av.container import InputContainer

BLOCK_FRAMES = 65536  # an MP3 of an old plan decodes differently under another, so this never changes
FFMPEG_HINT = "convert it with `ffmpeg -i IN -c:a flac OUT.flac`"

MOST_FRAMES = 1 << 40
UNKNOWN_FRAMES = 2**63 - 1  # libsndfile's, where the header of a streamed FLAC does not know
_POINTER = rb"version http|/annex/objec|(\.\./)+|\.git/annex/"  # the text in place of a file, or of a link
SYSTEM_ERROR = 2  # libsndfile's code for an error of the operating system


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioInfo:
    """What a file is before anybody needs its samples. note: what is odd about it, but harmless; empty if nothing."""

    container: Container
    frames: int
    rate_hz: int
    channels: int
    note: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioBudget:
    """How much a file may ask for: a 1 Hz header blows up 48,000 times, an hour of silence is half a megabyte.

    follow_links: be somewhere else than below the audio root, where a link there leads to it.
    """

    max_hours: float = 25
    max_channels: int = 16
    min_rate_hz: int = 8_000
    max_rate_hz: int = 384_000
    max_bytes: int = 16 * 10**9
    follow_links: bool = False

    def check(self, rate_hz: int, channels: int, frames: int) -> None:
        """Raises: AudioError: bad-rate, too-many-channels, too-long."""
        if not self.min_rate_hz <= rate_hz <= self.max_rate_hz:
            raise AudioError(f"bad-rate: {rate_hz} Hz, expected {self.min_rate_hz} to {self.max_rate_hz} Hz")
        if not 1 <= channels <= self.max_channels:
            raise AudioError(f"too-many-channels: {channels}, expected 1 to {self.max_channels}")
        if frames > self.max_hours * 3600 * rate_hz:
            raise AudioError(f"too-long: {frames / rate_hz / 3600:.1f} h, the budget is {self.max_hours:g} h")


DEFAULT_BUDGET = AudioBudget()


def probe_audio(path: str | Path, *, budget: AudioBudget = DEFAULT_BUDGET) -> AudioInfo:
    """Read what a file is, before anything large is allocated.

    Raises: AudioError: missing, unreadable, empty, unsupported-container, bad-rate, too-many-channels, too-long;
      truncated, damaged, contradictory: what the file says of its own samples does not fit what is there.
    """
    container, size = _container(path)
    if size > budget.max_bytes:
        raise AudioError(f"too-long: {size:,} bytes, the budget is {budget.max_bytes:,}")
    try:
        frames, is_counted, rate_hz, channels = _stated(path, container)
    except AudioError as e:
        if not isinstance(e.__cause__, ImportError):
            _structure(path, container)  # may know better why
        raise
    budget.check(rate_hz, channels, 0)
    structure = _structure(path, container, rate_hz)
    budget.check(rate_hz, channels, frames)
    if not is_counted and not structure.is_exactly(frames):  # only decoding tells
        frames = _count_frames(path, container, rate_hz, budget)
    structure.check(frames)
    if frames <= 0:
        raise AudioError("empty: the file has no audio samples")
    return AudioInfo(container=container, frames=frames, rate_hz=rate_hz, channels=channels, note=structure.note)


def _stated(path: str | Path, container: Container) -> tuple[int, bool, int, int]:
    """What its decoder says: frames, whether it knows them before it decodes; rate; channels."""
    if container == "m4a":
        with _open_m4a(path) as (file, _source):
            stream = file.streams.audio[0]
            if stream.codec_context is None:
                raise AudioError(f"unsupported-container: a codec that FFmpeg does not know; {FFMPEG_HINT}")
            return 0, False, stream.rate, stream.channels
    with _open_soundfile(path) as (file, _source):
        frames, rate_hz, channels, codec = file.frames, file.samplerate, file.channels, file.subtype
    if codec.startswith("DWVW"):
        raise AudioError(f"unsupported-container: nothing in it says how long a {codec} is; {FFMPEG_HINT}")
    if MOST_FRAMES < frames < UNKNOWN_FRAMES:  # a negative number, in other words
        raise AudioError("damaged: what its header says of its beginning and its end does not fit")
    if frames == UNKNOWN_FRAMES:
        raise AudioError(f"unsupported-container: its header does not say how long it is; {FFMPEG_HINT}")
    return frames, knows_length(container, codec), rate_hz, channels


def _structure(path: str | Path, container: Container, rate_hz: int = 0) -> Structure:
    with AudioBytes(path) as source, decoder_faults(source, "its header"):
        return read_structure(source.buffered, container, rate_hz=rate_hz)


def stream_audio(
    path: str | Path,
    *,
    rate_hz: int,
    start: int = 0,
    stop: int | None = None,
    expected: AudioInfo | None = None,
    deck: TapeDeck | None = None,
) -> Iterator[np.ndarray]:
    """Stream a stretch of a file as mono float32 blocks at `rate_hz`.

    Args:
      path: the file.
      rate_hz: the rate of the samples that come out.
      start, stop: the stretch, in samples at `rate_hz` from the start of the file; None is to its end.
      expected: what the file was when it was probed; None probes it now.
      deck: lets a later stretch go on where this one ends, if the file must be streamed from its start.
    Yields: (samples,) float32; together exactly stop - start samples.
    Raises: AudioError: as `probe_audio`; truncated where the file ends early; changed-since-probe.
    """
    info = probe_audio(path) if expected is None else expected
    length = rescale_samples(info.frames, from_hz=info.rate_hz, to_hz=rate_hz)
    stop = length if stop is None else stop
    if not 0 <= start <= stop <= length:
        raise ValueError(f"samples {start} to {stop} of '{path}': expected them within its {length} samples")
    if enters_at(path, info, rate_hz):
        yield from open_tape(path, info, rate_hz, first=start).play(start, stop)
        return
    file = (str(path), audio_state(path), info, rate_hz)
    tape = deck.take(file, start) if deck else None
    tape = tape or open_tape(path, info, rate_hz)
    yield from tape.play(start, stop)
    if deck and stop < length:
        deck.put(file, tape)  # a tape that failed is not kept


def open_tape(path: str | Path, info: AudioInfo, rate_hz: int, *, first: int = 0) -> Tape:
    """The samples of a file at `rate_hz`, from `first` on; beyond 0 only of a file that `enters_at` that rate."""
    return Tape(_mono_blocks(path, info, rate_hz, first_frame=first), first=first)


def _mono_blocks(path: str | Path, info: AudioInfo, rate_hz: int, *, first_frame: int = 0) -> Iterator[np.ndarray]:
    """(samples,) float32 each, to the end of the file."""
    blocks = (_mono(block) for block in _checked_blocks(path, info, first_frame=first_frame))
    if info.rate_hz == rate_hz:
        return blocks
    length = rescale_samples(info.frames, from_hz=info.rate_hz, to_hz=rate_hz)
    return _resample(blocks, from_hz=info.rate_hz, to_hz=rate_hz, length=length)


def read_audio(path: str | Path, *, rate_hz: int, start: int = 0, stop: int | None = None) -> np.ndarray:
    """The stretch that `stream_audio` streams, in one piece: (samples,) float32."""
    blocks = list(stream_audio(path, rate_hz=rate_hz, start=start, stop=stop))
    return np.concatenate(blocks) if blocks else np.zeros(0, np.float32)


def _container(path: str | Path) -> tuple[Container, int]:
    """What the first bytes say, and the size in bytes."""
    with AudioBytes(path) as source:
        head, size = source.buffered.read(12), source.size
        source.check()
    if not head:
        raise AudioError("empty: the file has 0 bytes")
    if container := container_of(head):
        return container, size
    if re.match(_POINTER, head):
        raise AudioError(
            "missing: only a pointer of Git LFS or git-annex; `git lfs pull` or `git annex get` fetches it"
        )
    raise AudioError(
        "unsupported-container: expected WAV, FLAC, OGG, MP3, M4A, AIFF, CAF, AU or W64, "
        f"the file begins with {head!r}; {FFMPEG_HINT}"
    )


def audio_state(path: str | Path) -> tuple[int, int, int]:
    """What the system says of a file: another once its bytes are. Raises: AudioError: missing; EnvironmentTrouble."""
    with os_errors_explained(path):
        found = os.stat(path)
    return found.st_ino, found.st_size, found.st_mtime_ns


def audio_sha256(path: str | Path, *, known: bool = False) -> str:
    """sha256 of a file's bytes; known: read once for as long as the file is not written to.

    Raises: AudioError: missing, unreadable; EnvironmentTrouble.
    """
    with os_errors_explained(path):
        return (known_sha256 if known else sha256_of_file)(path)


def _count_frames(path: str | Path, container: Container, rate_hz: int, budget: AudioBudget) -> int:
    frames = 0
    for block in _decode(path, container, rate_hz, first_frame=0):
        frames += len(block)
        budget.check(rate_hz, block.shape[1], frames)
    return frames


def enters_at(path: str | Path, info: AudioInfo, rate_hz: int) -> bool:
    """Whether a stretch of a file, at a rate, costs nothing of what lies before it."""
    if info.rate_hz != rate_hz:
        return False
    if info.container in ("flac", "ogg", "mp3", "mp3-through", "m4a"):
        return seeks_exactly(info.container, "")
    with _open_soundfile(path) as (file, _source):
        return seeks_exactly(info.container, file.subtype)


def channel_peak(path: str | Path, info: AudioInfo, first: int, end: int) -> float:
    """The largest absolute sample that any channel has from frame `first` to the one before `end`; 0 without any."""
    at = first if enters_at(path, info, info.rate_hz) else 0
    peak = 0.0
    for block in _checked_blocks(path, info, first_frame=at):
        part = block[max(0, first - at) : max(0, end - at)]
        peak = max(peak, float(np.abs(part).max(initial=0)))
        at += len(block)
        if at >= end:
            break
    return peak


def _checked_blocks(path: str | Path, info: AudioInfo, *, first_frame: int) -> Iterator[np.ndarray]:
    """Blocks of (frames, channels), held against what the probe promised."""
    frames = first_frame
    for block in _decode(path, info.container, info.rate_hz, first_frame=first_frame):
        if block.shape[1] != info.channels:
            raise AudioError(f"changed-since-probe: {block.shape[1]} channels, the probe saw {info.channels}")
        frames += len(block)
        if frames > info.frames:
            raise AudioError(f"changed-since-probe: {frames} frames or more, the probe saw {info.frames}")
        yield block
    if frames < info.frames:
        raise AudioError(f"truncated: the header promises {info.frames} frames, {frames} could be decoded")


def _decode(path: str | Path, container: Container, rate_hz: int, *, first_frame: int) -> Iterator[np.ndarray]:
    """Blocks of (frames, channels) float32, each but the last BLOCK_FRAMES long (any length for m4a)."""
    if container == "m4a":
        yield from _decode_m4a(path, rate_hz)
        return
    with _open_soundfile(path, straight=container != "mp3") as (file, source):
        _check_rate(file.samplerate, rate_hz)
        if first_frame:
            file.seek(first_frame)
        while len(block := file.read(BLOCK_FRAMES, dtype="float32", always_2d=True)):
            source.check()  # a block whose bytes were not all read
            yield block


class _Sound(soundfile.SoundFile):
    """Is closed by whoever opened it: a close at the end of Python that fails half-way must not be tried again."""

    def __del__(self) -> None: ...


class _Straight(_Sound):
    """Reads on where it is. soundfile seeks there after each block, which some codecs cannot, and which changes MP3."""

    def seekable(self) -> bool:
        return False


@contextmanager
def _open_soundfile(path: str | Path, *, straight: bool = False) -> Iterator[tuple[soundfile.SoundFile, AudioBytes]]:
    """A file for libsndfile. Raises: AudioError: unreadable; EnvironmentTrouble."""
    doing = ""
    with AudioBytes(path) as source, decoder_faults(source, "libsndfile"):
        try:
            with (_Straight if straight else _Sound)(source.buffered) as file:
                source.check()  # a header that was not read
                doing = "decoding stopped: "
                yield file, source
        except soundfile.LibsndfileError as e:
            if e.code == SYSTEM_ERROR:
                raise EnvironmentTrouble(f"'{path}': {doing}{e.error_string}") from e
            raise AudioError(f"unreadable: {doing}{e.error_string}") from e


@contextmanager
def _open_m4a(path: str | Path) -> Iterator[tuple["InputContainer", AudioBytes]]:
    """A file for FFmpeg. Raises: AudioError: unreadable, unsupported-container; EnvironmentTrouble."""
    try:
        import av
    except ImportError as e:
        raise AudioError(f"unsupported-container: M4A needs `pip install softlabels[m4a]`, or {FFMPEG_HINT}") from e
    container = None
    with AudioBytes(path) as source, decoder_faults(source, "FFmpeg"):
        try:
            with av.open(source.buffered, "r", metadata_errors="replace") as container:  # titles need not be UTF-8
                source.check()
                if not container.streams.audio:
                    raise AudioError("unsupported-container: the file has no audio track")
                yield container, source
        except av.error.FFmpegError as e:
            raise AudioError(f"unreadable: {f'decoding stopped: {e}' if container else e.strerror}") from e


def _check_rate(found: int, rate_hz: int) -> None:
    """Of another rate, every window would be other audio. Raises: AudioError."""
    if found != rate_hz:
        raise AudioError(f"changed-since-probe: a rate of {found} Hz, the probe saw {rate_hz} Hz")


def _decode_m4a(path: str | Path, rate_hz: int) -> Iterator[np.ndarray]:
    with _open_m4a(path) as (container, source):
        import av

        _check_rate(container.streams.audio[0].rate, rate_hz)
        to_float = av.AudioResampler(format="fltp")  # sample format only: rate and channels stay
        for frame in container.decode(audio=0):
            source.check()  # a frame whose bytes were not all read
            for converted in to_float.resample(frame):
                yield converted.to_ndarray().T  # (channels, frames) -> (frames, channels)


def _mono(block: np.ndarray) -> np.ndarray:
    """(frames, channels) -> (frames,): the mean, summed channel by channel so that no CPU sums differently."""
    if block.shape[1] == 1:
        return block[:, 0]
    with np.errstate(invalid="ignore", over="ignore"):  # samples that are no numbers are told of later
        total = block[:, 0].astype(np.float64)
        for channel in range(1, block.shape[1]):
            total += block[:, channel]
        return (total / block.shape[1]).astype(np.float32)


def _resample(blocks: Iterable[np.ndarray], *, from_hz: int, to_hz: int, length: int) -> Iterator[np.ndarray]:
    """Resample a stream. A NaN or infinite sample stays one, and spoils nothing around it.

    The filter would smear it over everything that follows, so it goes in as silence and comes out as NaN.
    """
    resampler = soxr.ResampleStream(from_hz, to_hz, 1, dtype="float32", quality="HQ")
    spoiled = _Spoiled(from_hz, to_hz)
    for block in blocks:
        resampled = spoiled.restore(resampler.resample_chunk(spoiled.take_out(block)))
        length -= len(resampled)
        yield resampled
    rest = spoiled.restore(resampler.resample_chunk(np.zeros(0, np.float32), last=True))
    # A length that ends on half a sample is rounded down by soxr for some rates: the half sample is silence.
    yield np.pad(rest, (0, 1)) if length - len(rest) == 1 else rest


class _Spoiled:
    """Remembers where samples that are not finite went in, until the same moment comes out at the other rate."""

    def __init__(self, from_hz: int, to_hz: int) -> None:
        self._from_hz, self._to_hz = from_hz, to_hz
        self._in = self._out = 0  # samples seen so far
        self._runs: list[tuple[int, int]] = []  # first output sample, and the one after the last

    def take_out(self, block: np.ndarray) -> np.ndarray:
        first, self._in = self._in, self._in + len(block)
        if (finite := np.isfinite(block)).all():
            return block
        edges = np.flatnonzero(np.diff(~finite, prepend=False, append=False)) + first
        for first, end in edges.reshape(-1, 2).tolist():
            self._runs.append((first * self._to_hz // self._from_hz, -(-end * self._to_hz // self._from_hz)))
        return np.where(finite, block, np.float32(0))

    def restore(self, block: np.ndarray) -> np.ndarray:
        start, self._out = self._out, self._out + len(block)
        for first, end in self._runs:
            block[max(0, first - start) : max(0, end - start)] = np.nan
        self._runs = [run for run in self._runs if run[1] > self._out]
        return block
