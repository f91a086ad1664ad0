"""The audio of joined rows: what the student hears, cut on the teacher's grid at the student's own rate."""

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from softlabels.audio import AudioInfo, audio_os_error, stream_audio
from softlabels.audio_root import local_file
from softlabels.errors import AudioError, SoftLabelsError
from softlabels.windows import rescale_samples

if TYPE_CHECKING:
    from softlabels.joined import JoinedLabels


class WindowAudio:
    """Reads the windows of a join.

    Args:
      labels: joined with windows="each", or with one window a clip.
      rate_hz: the student's sample rate; None is the teacher's.
    Raises: ValueError: a clip with several windows was pooled into one row, which has no window of its own.
    """

    def __init__(self, labels: "JoinedLabels", *, rate_hz: int | None = None) -> None:
        self._labels = labels
        self._grid = labels.window
        self.rate_hz = rate_hz or self._grid.rate_hz
        self.window_samples = rescale_samples(self._grid.window_samples, from_hz=self._grid.rate_hz, to_hz=self.rate_hz)
        self._threads: tuple[int, ThreadPoolExecutor] | None = None
        self._checked: dict[Path, tuple[int, int, str]] = {}  # files whose digest was seen to be right
        if labels.windows != "each":
            self._refuse_pooled()

    def read(self, rows: Sequence[int] | np.ndarray) -> np.ndarray:
        """(rows, window_samples) float32, zero-padded behind the end of a clip.

        Raises: AudioError: a file is not what it was when the teacher heard it.
        """
        return np.stack(list(self._pool().map(self._read_row, rows)))

    def __reduce__(self) -> tuple:
        return _reopen, (self._labels, self.rate_hz)

    def _pool(self) -> ThreadPoolExecutor:
        """Threads of this process: a forked one inherits the object without its threads, and would wait for ever."""
        if self._threads is None or self._threads[0] != os.getpid():
            self._threads = (os.getpid(), ThreadPoolExecutor(os.cpu_count()))
        return self._threads[1]

    def _read_row(self, row: int) -> np.ndarray:
        clip, window_index = self._labels.clip_of(row)
        if clip["reason"]:
            raise AudioError(
                f"missing: clip {clip['clip_id']!r} was never heard by the teacher; join with missing='drop'"
            )
        start, stop = self._span(clip, window_index)
        info = AudioInfo(
            container=clip["container"], frames=clip["frames"], rate_hz=clip["rate_hz"], channels=clip["channels"]
        )
        samples = np.zeros(self.window_samples, np.float32)
        position = 0
        try:
            with local_file(self._labels.root, clip["path"], sha256=clip["sha256"]) as path:
                self._check_bytes(path, clip)
                for block in stream_audio(path, rate_hz=self.rate_hz, start=start, stop=stop, expected=info):
                    samples[position : position + len(block)] = block
                    position += len(block)
        except AudioError as e:
            raise _of_clip(e, clip) from e
        return samples

    def _check_bytes(self, path: Path, clip: dict[str, Any]) -> None:
        """Hold a file against the digest of the one the teacher heard; again whenever it was written to.

        Raises: AudioError: other bytes, be they of the same length.
        """
        try:
            found = os.stat(path)
            state = (found.st_size, found.st_mtime_ns, clip["sha256"])
            if self._checked.get(path) == state:
                return
            with open(path, "rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as e:
            raise audio_os_error(path, e) from e
        if digest != clip["sha256"]:
            raise AudioError(
                f"changed-since-probe: the file is sha256:{digest}, the teacher heard sha256:{clip['sha256']}"
            )
        self._checked[path] = state

    def _span(self, clip: dict[str, Any], window_index: int) -> tuple[int, int]:
        """The window in the file, in samples at the student's rate; behind the clip's end there is nothing."""
        clip_start = rescale_samples(clip["start"], from_hz=clip["rate_hz"], to_hz=self._grid.rate_hz)
        at_teacher = clip_start + window_index * self._grid.hop_samples
        start = rescale_samples(at_teacher, from_hz=self._grid.rate_hz, to_hz=self.rate_hz)
        clip_end = rescale_samples(clip["end"], from_hz=clip["rate_hz"], to_hz=self.rate_hz)
        return min(start, clip_end), min(start + self.window_samples, clip_end)

    def _refuse_pooled(self) -> None:
        pooled = self._labels.pooled_clips()
        if pooled:
            raise ValueError(
                f"windows={self._labels.windows!r} made one row of the windows of {len(pooled)} clips, such as "
                f"{pooled[0]!r}: a row without a window has no audio; join with windows='each'"
            )


def _of_clip(e: SoftLabelsError, clip: dict[str, Any]) -> SoftLabelsError:
    """The same error, with the clip named; trouble of the machine stays what it is."""
    if not isinstance(e, AudioError):
        return e
    return AudioError(f"{e.reason}: clip {clip['clip_id']!r}: {e.detail}; `softlabels run` checks the corpus")


def _reopen(labels: "JoinedLabels", rate_hz: int) -> WindowAudio:
    """Unpickle; threads do not travel."""
    return WindowAudio(labels, rate_hz=rate_hz)
