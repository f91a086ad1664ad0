"""What batches ask of labels: rows with a label each, and where the sound of each row is. Joined labels have both.

Nothing here knows a join, so a report can read windows of a store in the very same way.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from softlabels.audio.containers.container import Container, seeks_exactly
from softlabels.audio.decode import AudioInfo
from softlabels.classes.class_list import ClassList
from softlabels.sound.stretches import RowSounds
from softlabels.storage.location import Location
from softlabels.windows import WindowSpec

CropRule = Literal["linear", "nearest", "overlap"]  # how windows become the label of a crop
Pooling = Literal["each", "max", "mean"]  # how the windows of a clip became rows

_AUDIO = ["container", "frames", "rate_hz", "channels"]
_CLIP = ["clip_id", "path", "sha256", "reason", "start", "end", *_AUDIO]


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowSound:
    """Where the sound of one window is.

    path: below the audio root; sha256, audio: of the file when it was probed. reason: why the clip was never scored,
    or "". start: the first sample in the file, at the teacher's rate; clip_end: the one after the clip's last, at the
    file's own rate.
    """

    clip_id: str
    path: str
    sha256: str
    audio: AudioInfo
    reason: str
    start: int
    clip_end: int

    @classmethod
    def of_rows(
        cls, clips: pa.Table, clip_row: np.ndarray, window_index: np.ndarray, window: WindowSpec
    ) -> list["WindowSound"]:
        """Of many windows: clips: one row a clip, as planned; clip_row, window_index: (n,) of each window."""
        used, which = np.unique(clip_row, return_inverse=True)
        some = clips.select(_CLIP).take(used)
        first, rate_hz = (some[name].to_numpy()[which] for name in ("start", "rate_hz"))
        starts = window.starts(first, rate_hz, window_index).tolist()
        of_clips = [cls.of_clip(clip, 0, window) for clip in some.to_pylist()]
        return [replace(of_clips[i], start=start) for i, start in zip(which.tolist(), starts, strict=True)]

    @classmethod
    def of_clip(cls, clip: dict[str, Any], window_index: int, window: WindowSpec) -> "WindowSound":
        """clip: a row of a table of clips, as planned."""
        return cls(
            **{name: clip[name] for name in ("clip_id", "path", "sha256", "reason")},
            audio=AudioInfo(**{name: clip[name] for name in _AUDIO}),
            start=int(window.starts(clip["start"], clip["rate_hz"], window_index)),
            clip_end=clip["end"],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Runs:
    """Stretches of clips whose windows follow each other without a gap, all with a row.

    row: (runs + 1,) int64 the first row of each, ascending, then the number of rows. start, end: (runs,) int64 samples
    of the file at the teacher's rate: where the first window begins, and where the last one or the clip ends.
    cut: (runs,) bool, whether the clip goes on after it.
    """

    row: np.ndarray
    start: np.ndarray
    end: np.ndarray
    cut: np.ndarray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RowPlaces:
    """Where rows are, for whoever puts them in order.

    recording, start: (rows,) int32 and int64, which file, and the first sample in it at the teacher's rate. enters_hz:
    (recordings,) the rate at which a file can be read from its middle on; 0 is none.
    """

    recording: np.ndarray
    start: np.ndarray
    enters_hz: np.ndarray

    @classmethod
    def of_rows(
        cls, clips: pa.Table, clip_row: np.ndarray, window_index: np.ndarray, window: WindowSpec
    ) -> "RowPlaces":
        """Of all rows of a join; arguments as in `WindowSound.of_rows`."""
        path = clips["path"].combine_chunks().dictionary_encode()
        recording, first, rate_hz = path.indices.to_numpy(), clips["start"].to_numpy(), clips["rate_hz"].to_numpy()
        enters_hz = np.zeros(len(path.dictionary), np.int64)
        entered = [name for name in get_args(Container) if seeks_exactly(name, "PCM_16")]
        enters = pc.is_in(clips["container"], pa.array(entered)).to_numpy()
        enters_hz[recording] = np.where(enters, rate_hz, 0)
        starts = window.starts(first, rate_hz, 0)[clip_row] + window_index.astype(np.int64) * window.hop_samples
        return cls(recording=recording[clip_row], start=starts, enters_hz=enters_hz)

    def of(self, rows: np.ndarray) -> "RowPlaces":
        """Of some of the rows."""
        return replace(self, recording=self.recording[rows], start=self.start[rows])


class SoundRows(Protocol):
    """Rows that can be heard. window: the grid on which the teacher scored; root: below which the files are."""

    @property
    def window(self) -> WindowSpec: ...

    @property
    def root(self) -> Location: ...

    def sound_of(self, row: int) -> WindowSound:
        """Where the sound of a row is."""

    def sounds_of(self, rows: np.ndarray) -> list[WindowSound]:
        """Where the sound of each row is; one call a batch."""


class LabelRows(SoundRows, Protocol):
    """Rows that can be trained on; see `JoinedLabels`, which is one."""

    @property
    def classes(self) -> ClassList: ...

    @property
    def fingerprint(self) -> str: ...

    @property
    def windows(self) -> Pooling: ...

    def __len__(self) -> int: ...

    def places(self) -> RowPlaces:
        """Where all rows are."""

    def y_true(self, rows: Sequence[int] | np.ndarray | None = None, out: np.ndarray | None = None) -> np.ndarray:
        """(n,) rows -> (n, 2 * classes) float32 `[hard | soft]`."""

    def y_true_at(
        self, clip_ids: Sequence[str], start_s: Any, duration_s: Any = None, *, how: CropRule = "linear"
    ) -> np.ndarray:
        """(n,) crops -> (n, 2 * classes) float32 `[hard | soft]`."""

    @property
    def embedding_width(self) -> int:
        """How many numbers the teacher's embedding of a row has. Raises: JoinError: there is none."""

    def embedding(self, rows: Sequence[int] | np.ndarray | None = None, out: np.ndarray | None = None) -> np.ndarray:
        """(n,) rows -> (n, embedding_width) float16; NaN where a row has none."""

    def embedding_at(
        self, clip_ids: Sequence[str], start_s: Any, duration_s: Any = None, *, how: CropRule = "linear"
    ) -> np.ndarray:
        """(n,) crops -> (n, embedding_width) float16."""

    def row_sounds(self) -> RowSounds:
        """Where the sound of all rows is."""

    def runs(self) -> Runs:
        """The runs of all rows."""

    def cropped(
        self, rows: np.ndarray, start: np.ndarray, length: np.ndarray, how: CropRule, *, embedding: bool = False
    ) -> list[np.ndarray]:
        """`y_true_at`, and if asked `embedding_at`, of crops of the clips of (n,) rows; of their runs alone.

        start, length: (n,) int64 samples of the file, at the teacher's rate.
        """

    def pooled_clips(self) -> list[str]:
        """The clips of which several windows became one row, by id."""
