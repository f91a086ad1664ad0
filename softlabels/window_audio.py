"""The audio of joined rows: what the student hears, cut on the teacher's grid at the student's own rate."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from softlabels.audio import AudioInfo, stream_audio
from softlabels.errors import AudioError
from softlabels.join import JoinedLabels
from softlabels.planned import PlannedClip
from softlabels.windows import rescale_samples


class WindowAudio:
    """Reads the windows of a join.

    Args:
      labels: joined with windows="each", or with one window a clip.
      rate_hz: the student's sample rate; None is the teacher's.
    Raises: ValueError: a clip with several windows was pooled into one row, which has no window of its own.
    """

    def __init__(self, labels: JoinedLabels, *, rate_hz: int | None = None) -> None:
        self._labels = labels
        self._grid = labels.store.spec.window
        self.rate_hz = rate_hz or self._grid.rate_hz
        self.window_samples = rescale_samples(self._grid.window_samples, from_hz=self._grid.rate_hz, to_hz=self.rate_hz)
        self._planned = labels.store.planned_by_clip()
        self._threads = ThreadPoolExecutor(os.cpu_count())
        if labels.windows != "each":
            self._refuse_pooled()

    def read(self, rows: Sequence[int] | np.ndarray) -> np.ndarray:
        """(rows, window_samples) float32, zero-padded behind the end of a clip.

        Raises: AudioError: a file is not what it was when the teacher heard it.
        """
        return np.stack(list(self._threads.map(self._read_row, rows)))

    def _read_row(self, row: int) -> np.ndarray:
        clip, window_index = self._labels.clip_of(row)
        planned = self._planned.get(clip.clip_id)
        if planned is None or planned.reason:
            raise AudioError(f"missing: clip {clip.clip_id!r} was never heard by the teacher; join with missing='drop'")
        start, stop = self._span(planned, window_index)
        info = AudioInfo(
            container=planned.container, frames=planned.frames, rate_hz=planned.rate_hz, channels=planned.channels
        )
        path = self._labels.root / clip.path
        samples = np.zeros(self.window_samples, np.float32)
        position = 0
        try:
            for block in stream_audio(path, rate_hz=self.rate_hz, start=start, stop=stop, expected=info):
                samples[position : position + len(block)] = block
                position += len(block)
        except AudioError as e:
            raise AudioError(
                f"{e.reason}: clip {clip.clip_id!r}: {e.detail}; `softlabels run` checks the corpus"
            ) from e
        return samples

    def _span(self, planned: PlannedClip, window_index: int) -> tuple[int, int]:
        """The window in the file, in samples at the student's rate; behind the clip's end there is nothing."""
        at_teacher = planned.span(self._grid.rate_hz)[0] + window_index * self._grid.hop_samples
        start = rescale_samples(at_teacher, from_hz=self._grid.rate_hz, to_hz=self.rate_hz)
        clip_end = planned.span(self.rate_hz)[1]
        return min(start, clip_end), min(start + self.window_samples, clip_end)

    def _refuse_pooled(self) -> None:
        index = self._labels.store.index
        several = index.clip_ids[np.bincount(index.clip) > 1]
        pooled = sorted({clip.clip_id for clip in self._labels.clips} & set(several))
        if pooled:
            raise ValueError(
                f"windows={self._labels.windows!r} made one row of the windows of {len(pooled)} clips, such as "
                f"{pooled[0]!r}: a row without a window has no audio; join with windows='each'"
            )
