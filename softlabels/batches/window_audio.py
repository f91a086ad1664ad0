"""The sound of rows: what the student hears, cut on the teacher's grid at the student's own rate."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np

from softlabels.audio.decode import audio_state
from softlabels.audio.root import local_file
from softlabels.audio.shelf import Shelf, State
from softlabels.batches.rows import SoundRows, WindowSound
from softlabels.errors import AudioError
from softlabels.sound.decoding import check_content, of_clip
from softlabels.windows import rescale_samples

BLOCK_S = 1000  # audio in memory at once: 333 windows of 3 s, or 43 long recordings side by side; 96 MB at 24 kHz
MIX_S = 20  # how far a row may come late in its recording, so that neighbours are not always neighbours
_Window = tuple[WindowSound, int, np.ndarray]  # a row, its first sample in the file, and where its samples go


class WindowAudio:
    """Reads the sound of rows.

    Rows in the order of their file cost one decoding of it, also from batch to batch; a file that needs resampling, or
    cannot be entered in the middle, is read again from its start for a row that lies before those of late.

    rate_hz: the student's sample rate; None is the teacher's. window_samples: of each stretch read, at that rate; None
    is the teacher's window.
    """

    def __init__(self, rows: SoundRows, *, rate_hz: int | None = None, window_samples: int | None = None) -> None:
        self._rows, grid = rows, rows.window
        self.teacher_hz = grid.rate_hz
        self.rate_hz = rate_hz or grid.rate_hz
        teachers = rescale_samples(grid.window_samples, from_hz=grid.rate_hz, to_hz=self.rate_hz)
        self.window_samples = window_samples or teachers
        self._here = _Here(self.rate_hz, self.window_samples)

    def read(self, rows: Sequence[int] | np.ndarray, starts: np.ndarray | None = None) -> np.ndarray:
        """(rows, window_samples) float32, zero-padded after the end of a clip.

        starts: (rows,) int64, the sample of its file, at `rate_hz`, where each stretch begins; None: where its row's
          window does.
        Raises: AudioError: a file is not what it was when the teacher heard it.
        """
        rows = np.asarray(rows)
        samples = np.zeros((len(rows), self.window_samples), np.float32)
        of_file: dict[tuple, list[_Window]] = {}
        for i, sound in enumerate(self._rows.sounds_of(rows)):
            if sound.reason:
                raise AudioError(
                    f"missing: clip {sound.clip_id!r} was never heard by the teacher; join with missing='drop'"
                )
            end = rescale_samples(sound.clip_end, from_hz=sound.audio.rate_hz, to_hz=self.rate_hz)
            if starts is None:
                start = rescale_samples(sound.start, from_hz=self.teacher_hz, to_hz=self.rate_hz)
            else:
                start = int(starts[i])
                if start < 0:
                    raise ValueError(f"starts: expected samples of the file from 0 up, got {start}")
            if start < end:
                window = sound, start, samples[i, : end - start]
                of_file.setdefault((sound.path, sound.sha256, sound.audio), []).append(window)
        self._this_process().run(self._read_file, list(of_file.values()))
        return samples

    def __reduce__(self) -> tuple:
        made = partial(WindowAudio, rate_hz=self.rate_hz, window_samples=self.window_samples)
        return made, (self._rows,)  # threads and open files do not travel

    def _this_process(self) -> "_Here":
        """Threads and files of this process: a forked one inherits the object without its threads, and locks in use."""
        if self._here.process != os.getpid():
            self._here = _Here(self.rate_hz, self.window_samples)
        return self._here

    def _read_file(self, windows: list[_Window]) -> None:
        """Fill windows of one file."""
        sound, here = windows[0][0], self._this_process()
        try:
            with local_file(self._rows.root, sound.path, sha256=sound.sha256) as path:
                state = audio_state(path)
                if here.checked.get((sound.path, sound.sha256)) != state:
                    check_content(path, sound.sha256)
                    here.checked[sound.path, sound.sha256] = state
                asked = self.window_samples * len(windows)
                with here.shelf.reading(path, state, sound.audio, samples=asked) as recording:
                    windows.sort(key=lambda window: recording.costs(window[1]))
                    for sound, start, samples in windows:  # noqa: B007  # an error names the sound it came to
                        recording.fill(start, samples)
        except AudioError as e:
            raise of_clip(e, sound.clip_id, self._rows.root, sound.path) from e


class _Here:
    """What a process has of its own.

    shelf: open recordings. checked: what the files were that had their digest, by path and digest.
    """

    def __init__(self, rate_hz: int, window_samples: int) -> None:
        self.process, self.checked = os.getpid(), dict[tuple[str, str], State]()
        most = 2 * BLOCK_S * rate_hz  # a block, what decoders give beyond it, and the beginning of the next block
        self.shelf = Shelf(rate_hz, step_back=MIX_S * rate_hz + 3 * window_samples, most=most)
        self._cores = os.cpu_count() or 1
        self._threads = ThreadPoolExecutor(self._cores)

    def run(self, read_file: Callable[[list[_Window]], None], files: list[list[_Window]]) -> None:
        """Call a function for each file, in a few pieces a core."""

        def read_some(some: list[list[_Window]]) -> None:
            for windows in some:
                read_file(windows)

        pieces = min(4 * self._cores, len(files))
        if pieces < 2:
            read_some(files)
        else:
            list(self._threads.map(read_some, [files[i::pieces] for i in range(pieces)]))
