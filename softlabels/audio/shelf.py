"""A shelf of open recordings, each read on from where it was left, in bounded memory.

Stretches taken in the order of the file cost one decoding of it, whoever takes them; any other order gives the same
samples and costs more. Not here: whether a file is still the one that the teacher scored.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path

import numpy as np

from softlabels.audio.decode import BLOCK_FRAMES, AudioInfo, enters_at, open_tape
from softlabels.audio.tape import Tape
from softlabels.windows import rescale_samples

State = tuple[int, int, int]  # of a file; another once its bytes are


OVERTAKING = 8  # readers that may come before one whose stretch lies before theirs
MOST_OPEN = 128  # files that are left in the middle: a process may hold 256 on some systems


class Shelf:
    """Recordings at one rate. Many threads may read.

    Args:
      rate_hz: of the samples.
      step_back: how many samples a taker may step back in a recording without its being read again.
      most: how many samples are kept in all; the recordings that were used least recently go first. Beyond both, twice
        what was asked for at once is kept, since threads do not come in the order of the file; where there is room,
        what `OVERTAKING` readers ask for.
    """

    def __init__(self, rate_hz: int, *, step_back: int, most: int) -> None:
        self._rate_hz, self._step_back, self._most = rate_hz, step_back, most
        self._recordings: OrderedDict[tuple[str, AudioInfo], Recording] = OrderedDict()
        self._lock = threading.Lock()
        self._roomy: dict[Recording, None] = {}  # those that keep more than they have to
        self._asked = self._most_asked = 0
        self.kept = self.open = 0  # samples in memory, files left in the middle

    @contextmanager
    def reading(self, path: Path, state: State, info: AudioInfo, *, samples: int) -> Iterator["Recording"]:
        """Have one recording to oneself.

        Args:
          path, state, info: the file, what `audio_state` says of it now, and what it was when it was probed.
          samples: how many will be asked for.
        Raises: AudioError, EnvironmentTrouble: as `stream_audio`.
        """
        recording = self._borrow((str(path), info), samples)
        try:
            with recording.lock:
                recording.least = self._step_back + 2 * recording.most_asked
                recording.keep = max(recording.least, self._step_back + OVERTAKING * samples)
                recording.load(path, state, info, self._rate_hz)
                yield recording
        finally:
            self._give_back(recording, samples)

    def _borrow(self, key: tuple[str, AudioInfo], asked: int) -> "Recording":
        with self._lock:
            recording = self._recordings.setdefault(key, Recording())
            self._recordings.move_to_end(key)
            self._asked += asked
            recording.asked += asked
            self._most_asked = max(self._most_asked, self._asked)
            recording.most_asked = max(recording.most_asked, recording.asked)
            return recording

    def _give_back(self, recording: "Recording", asked: int) -> None:
        with self._lock:
            self._asked -= asked
            recording.asked -= asked
            if recording.asked:
                return  # whoever waits for it counts it
            self._count(recording)
            if self._is_full():
                for each in [each for each in self._roomy if not each.asked]:
                    each.trim()
                    self._count(each)
            while self._is_full() and self._drop(lambda each: True):
                pass
            while self.open > MOST_OPEN and self._drop(lambda each: each.is_open):
                pass

    def _is_full(self) -> bool:
        return self.kept > self._most + 2 * self._most_asked

    def _count(self, recording: "Recording") -> None:
        kept, is_open = recording.kept_now()
        self.kept += kept - recording.kept
        self.open += is_open - recording.is_open
        recording.kept, recording.is_open = kept, is_open
        if recording.is_roomy:
            self._roomy[recording] = None
        else:
            self._roomy.pop(recording, None)

    def _drop(self, may_go: Callable[["Recording"], bool]) -> bool:
        """Let go of the recording that was used least recently, if any may go; its file closes with its tape."""
        key = next((key for key, each in self._recordings.items() if not each.asked and may_go(each)), None)
        if key is None:
            return False
        dropped = self._recordings.pop(key)
        self.kept, self.open = self.kept - dropped.kept, self.open - dropped.is_open
        self._roomy.pop(dropped, None)
        return True


class Recording:
    """One file, read by whoever has it from the shelf.

    asked, most_asked: samples asked for at once, now and so far; keep, least: how many may be stepped back, and where
    there is no room; kept, is_open: as the shelf has counted them.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.asked = self.most_asked = self.kept = self.keep = self.least = 0
        self.is_open = False
        self._state: State | None = None
        self._tape: Tape | None = None
        self._beyond = 0  # how far a tape is ahead of its taker
        self._open: Callable[..., Tape]
        self._enters: Callable[[], bool]

    def kept_now(self) -> tuple[int, bool]:
        """Samples in memory, and whether the file was left in the middle."""
        return (self._tape.kept, not self._tape.over) if self._tape else (0, False)

    @property
    def is_roomy(self) -> bool:
        """Whether more is kept than has to be, by a block of a decoder or more."""
        return self.kept >= self.least + 2 * self._beyond

    def trim(self) -> None:
        """Keep no more than has to be."""
        if self._tape:
            self._tape.trim(self.least + self._beyond)

    def load(self, path: Path, state: State, info: AudioInfo, rate_hz: int) -> None:
        """Read the file as it is now."""
        if state != self._state:
            self._tape, self._state = None, state
            self._beyond = rescale_samples(BLOCK_FRAMES, from_hz=info.rate_hz, to_hz=rate_hz)
            self._open = partial(open_tape, path, info, rate_hz)
            self._enters = cache(partial(enters_at, path, info, rate_hz))  # opens some files to find out

    def costs(self, start: int) -> tuple[bool, int]:
        """Sorts samples: those that the tape comes to, then those for which the file is read again, in its order."""
        return self._tape is None or not self._tape.reaches(start), start

    def fill(self, start: int, out: np.ndarray) -> None:
        """The (samples,) float32 of the file from `start` on, up to its end at most. Raises: as `stream_audio`."""
        tape, self._tape = self._tape, None  # a tape that fails is not kept
        if tape is None or not self._within_reach(tape, start):
            tape = self._open(first=start if start and self._enters() else 0)
        tape.keep, at = self.keep + self._beyond, 0
        for piece in tape.play(start, start + len(out)):
            out[at : at + len(piece)] = piece
            at += len(piece)
        self._tape = tape

    def _within_reach(self, tape: Tape, start: int) -> bool:
        """Whether a tape is the cheapest way to a sample: a file that can be entered there is not read up to it."""
        return tape.reaches(start) and not (start > tape.end + BLOCK_FRAMES and self._enters())
