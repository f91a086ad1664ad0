"""From a file to its kept blocks: read once, from its start, by the decoder that streaming uses too."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from softlabels.audio.decode import audio_sha256, stream_audio
from softlabels.audio.lost import hint
from softlabels.audio.root import local_file
from softlabels.errors import AudioError
from softlabels.kept.soft_file import SoftFile
from softlabels.sound.samples import BLOCK, SampleFormat, to_int16
from softlabels.sound.stretches import FileSound
from softlabels.storage.location import Location
from softlabels.threads import read_ahead

_AHEAD, _LONG_S = 4, 30  # blocks of the decoder; a file of so many seconds is worth a thread
_TOGETHER = 64  # blocks of ours that are written at once


@contextlib.contextmanager
def about_clip(clip_id: str, root: Location, path: str) -> Iterator[None]:
    """Say of whose audio an error is, and what to do. Raises: AudioError."""
    try:
        yield
    except AudioError as e:
        raise of_clip(e, clip_id, root, path) from e


def of_clip(e: AudioError, clip_id: str, root: Location, path: str) -> AudioError:
    """The error with its clip's name, what is there instead, and what to do."""
    if e.reason == "missing":
        below = f"below {str(root)!r}, or name its folder with root="
        next_step = f" at '{path}'{hint(root, path)}; `softlabels run` checks the corpus {below}"
    else:
        again = " --probe-again" if e.reason == "changed-since-probe" else ""
        next_step = f"; `softlabels run{again}` checks the corpus"
    return AudioError(f"{e.reason}: clip {clip_id!r}: {e.detail}{next_step}")


def check_content(path: str | Path, sha256: str) -> None:
    """See that a local file is what the teacher heard. Raises: AudioError: changed-since-probe, missing."""
    digest = audio_sha256(path, known=True)  # again whenever the file was written to
    if digest != sha256:
        raise AudioError(f"changed-since-probe: the file is sha256:{digest}, the teacher heard sha256:{sha256}")


def write_files(
    array: SoftFile, files: tuple[FileSound, ...], *, root: Location, rate_hz: int, form: SampleFormat, blocks: int
) -> None:
    """Decode files, one after the other, and write what is kept of them.

    Args:
      array: of audio, with `blocks` rows of samples; of whole numbers the exponents come after them.
    Raises: AudioError: a file is missing, damaged, or not what it was when the teacher heard it. OSError.
    """
    for file in files:
        with about_clip(file.clip_id, root, file.path), local_file(root, file.path, sha256=file.sha256) as path:
            check_content(path, file.sha256)
            first, last = file.runs[0][0] * BLOCK, min(file.runs[-1][1] * BLOCK, file.end)
            stream = stream_audio(path, rate_hz=rate_hz, start=first, stop=last, expected=file.audio)
            if last - first >= _LONG_S * rate_hz:
                stream = read_ahead(stream, depth=_AHEAD)
            for block, samples in _in_blocks(stream, file.runs[0][0]):
                for begin, end, row in file.runs:
                    some = samples[max(0, begin - block) : max(0, end - block)]
                    if len(some):
                        _write(array, row + max(0, block - begin), some, form, blocks)


def _in_blocks(stream: Iterator[np.ndarray], first: int) -> Iterator[tuple[int, np.ndarray]]:
    """(samples,) float32 each -> which block of the file comes, and (n, BLOCK) from there; zeros after the last."""
    held, count = [], 0
    for samples in stream:
        held.append(samples)
        count += len(samples)
        if count >= _TOGETHER * BLOCK:
            joined = np.concatenate(held)
            whole = count // BLOCK
            yield first, joined[: whole * BLOCK].reshape(whole, BLOCK)
            held, count, first = [joined[whole * BLOCK :]], count - whole * BLOCK, first + whole
    if count:
        joined = np.concatenate(held)
        yield first, np.pad(joined, (0, -count % BLOCK)).reshape(-1, BLOCK)


def _write(array: SoftFile, row: int, samples: np.ndarray, form: SampleFormat, blocks: int) -> None:
    if form == "float32":
        array.write(row, samples)
        return
    numbers, exponents = to_int16(samples)
    array.write(row, numbers)
    array.write_items(blocks * BLOCK + row, exponents)
