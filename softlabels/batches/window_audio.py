"""The sound of rows: what the student hears, cut on the teacher's grid at the student's own rate."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import repeat

import numpy as np

from softlabels.audio.decode import audio_sha256, stream_audio
from softlabels.audio.lost import hint
from softlabels.audio.root import local_file
from softlabels.batches.rows import SoundRows
from softlabels.errors import AudioError
from softlabels.windows import rescale_samples


class WindowAudio:
    """Reads the sound of rows.

    rate_hz: the student's sample rate; None is the teacher's. window_samples: of each stretch read, at that rate; None
    is the teacher's window.
    """

    def __init__(self, rows: SoundRows, *, rate_hz: int | None = None, window_samples: int | None = None) -> None:
        self._rows, grid = rows, rows.window
        self._teacher_hz = grid.rate_hz
        self.rate_hz = rate_hz or grid.rate_hz
        teachers = rescale_samples(grid.window_samples, from_hz=grid.rate_hz, to_hz=self.rate_hz)
        self.window_samples = window_samples or teachers
        self._threads: tuple[int, ThreadPoolExecutor] | None = None

    def read(self, rows: Sequence[int] | np.ndarray, starts: np.ndarray | None = None) -> np.ndarray:
        """(rows, window_samples) float32, zero-padded after the end of a clip.

        starts: (rows,) int64, the sample of its file, at `rate_hz`, where each stretch begins; None: where its row's
          window does.
        Raises: AudioError: a file is not what it was when the teacher heard it.
        """
        return np.stack(list(self._pool().map(self._read_row, rows, repeat(None) if starts is None else starts)))

    def __reduce__(self) -> tuple:
        made = partial(WindowAudio, rate_hz=self.rate_hz, window_samples=self.window_samples)
        return made, (self._rows,)  # threads do not travel

    def _pool(self) -> ThreadPoolExecutor:
        """Threads of this process: a forked one inherits the object without its threads, and would wait for ever."""
        if self._threads is None or self._threads[0] != os.getpid():
            self._threads = (os.getpid(), ThreadPoolExecutor(os.cpu_count()))
        return self._threads[1]

    def _read_row(self, row: int, start: int | None) -> np.ndarray:
        sound = self._rows.sound_of(row)
        if sound.reason:
            raise AudioError(
                f"missing: clip {sound.clip_id!r} was never heard by the teacher; join with missing='drop'"
            )
        clip_end = rescale_samples(sound.clip_end, from_hz=sound.audio.rate_hz, to_hz=self.rate_hz)
        if start is None:
            start = rescale_samples(sound.start, from_hz=self._teacher_hz, to_hz=self.rate_hz)
        start = min(int(start), clip_end)
        stop = min(start + self.window_samples, clip_end)
        samples = np.zeros(self.window_samples, np.float32)
        position = 0
        try:
            with local_file(self._rows.root, sound.path, sha256=sound.sha256) as path:
                digest = audio_sha256(path, known=True)  # again whenever the file was written to
                if digest != sound.sha256:
                    raise AudioError(
                        f"changed-since-probe: the file is sha256:{digest}, the teacher heard sha256:{sound.sha256}"
                    )
                for block in stream_audio(path, rate_hz=self.rate_hz, start=start, stop=stop, expected=sound.audio):
                    samples[position : position + len(block)] = block
                    position += len(block)
        except AudioError as e:
            raise AudioError(f"{e.reason}: clip {sound.clip_id!r}: {e.detail}{self._next_step(e, sound.path)}") from e
        return samples

    def _next_step(self, e: AudioError, path: str) -> str:
        """What is there instead, and what to do, in words that follow the error."""
        if e.reason == "missing":
            root = self._rows.root
            below = f"below {str(root)!r}, or name its folder with root="
            return f" at '{path}'{hint(root, path)}; `softlabels run` checks the corpus {below}"
        again = " --probe-again" if e.reason == "changed-since-probe" else ""
        return f"; `softlabels run{again}` checks the corpus"
