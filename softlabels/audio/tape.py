"""A tape: a file that is streamed from its start, kept where it was left.

A stretch of a file that needs resampling, or cannot be entered in the middle, costs all that lies before it. Whoever
takes stretch after stretch of a long recording goes on from the last one instead.
"""

import threading
from collections import deque
from collections.abc import Hashable, Iterator

import numpy as np

from softlabels.errors import AudioError

KEPT_SAMPLES = 1 << 20  # the latest ones, 4 MB: neighbouring stretches share a window and its margins


class Tape:
    """The samples of a file, in order, of which the latest can be had once more.

    Args:
      blocks: (samples,) float32 each, to the end of the file.
      first: the sample of the file with which they begin.

    end: the sample of the file that comes next; over: whether none does; keep: how many of the latest can be had again.
    """

    def __init__(self, blocks: Iterator[np.ndarray], *, first: int = 0) -> None:
        self._blocks = blocks
        self._kept: deque[tuple[int, np.ndarray]] = deque()  # position and samples of the latest blocks
        self.end, self.over, self.keep = first, False, KEPT_SAMPLES

    @property
    def kept(self) -> int:
        """How many samples are in memory."""
        return self.end - self._kept[0][0] if self._kept else 0

    def reaches(self, start: int) -> bool:
        """Whether sample `start` is still to come, or kept."""
        return start >= (self._kept[0][0] if self._kept else self.end)

    def trim(self, keep: int) -> None:
        """Let go of all but the latest samples, at least `keep` of them."""
        while self._kept and self.kept - len(self._kept[0][1]) >= keep:
            self._kept.popleft()

    def play(self, start: int, stop: int) -> Iterator[np.ndarray]:
        """The samples from start to stop, as blocks; the file is left as soon as they have come.

        Raises: AudioError: truncated; and what the blocks raise, after which the tape is of no use.
        """
        for position, block in self._from(start):
            piece = block[max(0, start - position) : max(0, stop - position)]
            if len(piece):
                yield piece
            if position + len(block) > stop:  # at exactly stop, go on: the end of the file has to be seen
                return
        if self.end < stop:
            raise AudioError(f"truncated: the audio ends after {self.end} of {stop} samples")

    def _from(self, start: int) -> Iterator[tuple[int, np.ndarray]]:
        """Position and samples of every block that reaches beyond `start`."""
        yield from [(position, block) for position, block in self._kept if position + len(block) > start]
        for block in self._blocks:
            position, self.end = self.end, self.end + len(block)
            self._kept.append((position, block))
            self.trim(self.keep)
            yield position, block
        self.over = True


class TapeDeck:
    """Keeps the last tape for whoever wants the same file next."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: tuple[Hashable, Tape] | None = None

    def take(self, file: Hashable, start: int) -> Tape | None:
        """The tape of a file, if it is here and can be played from `start`; it is the caller's then."""
        with self._lock:
            if self._kept is None or self._kept[0] != file or not self._kept[1].reaches(start):
                return None
            tape, self._kept = self._kept[1], None
            return tape

    def put(self, file: Hashable, tape: Tape) -> None:
        """Keep a tape, in place of the one before."""
        with self._lock:
            self._kept = (file, tape)
