"""LabelRows: the rows of a join as they are read: `y_true`, its halves, crops, and where in a clip the labels are.

Not here: what makes other labels of labels (`joined_labels.py`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from softlabels.aligned import aligned_empty
from softlabels.batches.rows import CropRule, Pooling, RowPlaces, Runs, WindowSound
from softlabels.batches.sampling import best_rows, sampling_weights
from softlabels.calibration.report import CalibrationReport
from softlabels.classes.class_list import Activation, ClassList
from softlabels.digests import sha256_of
from softlabels.errors import JoinError
from softlabels.kept.soft_file import HALF, CheckedRows
from softlabels.labels.arrays import checked_rows, fill
from softlabels.labels.reading.crops import CropRows, crop_rows, rows_alone, rows_of_crops, runs_of, weighted_labels
from softlabels.labels.reading.embeddings import checked_embedding, mean_embeddings, open_embeddings
from softlabels.labels.reading.origin import store_of
from softlabels.labels.report import JoinReport
from softlabels.labels.saved import SavedJoin
from softlabels.labels.steps import Step
from softlabels.sound.stretches import RowSounds
from softlabels.storage.file_cache import user_folder
from softlabels.storage.location import Location
from softlabels.windows import WindowSpec

if TYPE_CHECKING:
    import pandas as pd

Rows = Sequence[int] | np.ndarray | None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LabelRows:
    """Hard and soft labels of the same windows. `len(labels)` is the number of rows.

    classes: the student's class list; activation: of the labels as they are read. window: the grid on which the
    teacher scored; windows: how a row came from the windows of a clip. report: what was matched and what was left out.
    path: the folder that holds the join; root: the folder or URL below which the audio is. fingerprint: of all inputs.
    class_trust: (classes,) float in [0, 1], how far the teacher is believed on each class; None is fully.
    calibration: what `calibrate` found; None before.
    """

    root: Location
    class_trust: np.ndarray | None = None
    calibration: CalibrationReport | None = None
    _saved: SavedJoin
    _steps: tuple[Step, ...] = ()  # what is done to rows when they are read
    classes: ClassList = field(init=False)
    activation: Activation = field(init=False)
    window: WindowSpec = field(init=False)
    windows: Pooling = field(init=False)
    report: JoinReport = field(init=False)
    path: Path = field(init=False)
    fingerprint: str = field(init=False)

    def __post_init__(self) -> None:
        header = self._saved.header
        classes, activation = ClassList(tuple(header["classes"])), header["activation"]
        fingerprint = header["fingerprint"]
        for step in self._steps:
            classes, activation = step.classes(classes), step.activation
            fingerprint = sha256_of([fingerprint, step.settings()])
        set_once = partial(object.__setattr__, self)
        set_once("classes", classes)
        set_once("activation", activation)
        set_once("window", WindowSpec(**header["window"]))
        set_once("windows", header["windows"])
        set_once("report", JoinReport.from_json(header["report"]))
        set_once("path", self._saved.path)
        set_once("fingerprint", fingerprint)

    def __len__(self) -> int:
        return len(self._saved.arrays)

    def __repr__(self) -> str:
        return f"JoinedLabels({len(self)} rows, {len(self.classes)} classes, {self.activation})"

    @property
    def keys(self) -> "pd.DataFrame":
        """What each row is: clip_id, window_index, start_s in its file, split and fold of its clip."""
        import pandas as pd

        arrays = self._saved.arrays
        clip_id, split, fold = (arrays.clips[c].to_numpy()[arrays.clip_row] for c in ("clip_id", "split", "fold"))
        times = {"window_index": np.array(arrays.window_index), "start_s": np.array(arrays.start_s)}
        return pd.DataFrame({"clip_id": clip_id, **times, "split": split, "fold": fold})

    def hard(self, rows: Rows = None) -> np.ndarray:
        """(rows, classes) float32: 1 annotated, 0 annotated as absent, NaN not annotated. None is all rows.

        Example:
          >>> labels.hard([0])
          array([[1., 0., 0.]], dtype=float32)
        """
        return self.y_true(rows)[:, : len(self.classes)]

    def soft(self, rows: Rows = None) -> np.ndarray:
        """(rows, classes) float32 teacher probabilities; NaN where the teacher said nothing. None is all rows.

        Example:
          >>> labels.soft([0, 1]).shape  # (rows, classes)
          (2, 3)
        """
        return self.y_true(rows)[:, len(self.classes) :]

    def y_true(self, rows: Rows = None, out: np.ndarray | None = None) -> np.ndarray:
        """The labels of some rows, as `DistillationLoss` takes them.

        Args:
          rows: (n,) row numbers, in any order, repeated or not; None is all rows.
          out: (n, 2 * classes) float32 to write to; None makes one.
        Returns: (n, 2 * classes) float32, `[hard | soft]`.
        Raises: ValueError: a row number outside the join, or `out` of another shape or type.
        Example:
          >>> labels.y_true([0, 1]).shape  # (rows, [hard | soft])
          (2, 6)
        """
        rows, arrays = checked_rows(rows, len(self)), self._saved.arrays
        width = 2 * len(self.classes)
        if out is None:
            out = aligned_empty((len(rows), width))
        elif out.shape != (len(rows), width) or out.dtype != np.float32:
            raise ValueError(f"out: expected float32 of shape {(len(rows), width)}, got {out.dtype} {out.shape}")
        hard, soft = out[:, : width // 2], out[:, width // 2 :]
        if self._steps:
            hard, soft = np.empty((2, len(rows), arrays.soft.shape[1]), np.float32)
        fill(arrays, self._saved.table, rows, hard, soft)
        if self._steps:
            weak = self._saved.weak[arrays.clip_row[rows]]  # (n,) bool
        for step in self._steps:
            hard, soft = step.apply(hard, soft, weak)
        return np.concatenate([hard, soft], axis=1, out=out) if self._steps else out

    def soft_at(
        self, clip_ids: Sequence[str], start_s: Any, duration_s: Any = None, *, how: CropRule = "linear"
    ) -> np.ndarray:
        """The teacher's probabilities for any crops, made from the windows around each; one call a batch.

        Args:
          clip_ids: (n,) ids.
          start_s: (n,) seconds, where each crop starts in its file.
          duration_s: (n,) or one number; None is the teacher's window.
          how: "linear" interpolates the two windows whose centres enclose the crop's; "nearest" takes the nearer one;
            "overlap" weights every window by what it shares with the crop, which may then have any length.
        Returns: (n, classes) float32; NaN where the crop leaves the clip's windows or one of them has no label.
        Raises: ValueError: an unknown clip, or with "linear" and "nearest" crops that are not as long as the window;
          JoinError: the join pooled its windows.
        Example:
          >>> labels.soft_at(["c0", "c3"], start_s=[0.05, 0.123]).shape
          (2, 3)
        """
        return self.y_true_at(clip_ids, start_s, duration_s, how=how)[:, len(self.classes) :]

    def y_true_at(
        self, clip_ids: Sequence[str], start_s: Any, duration_s: Any = None, *, how: CropRule = "linear"
    ) -> np.ndarray:
        """`[hard | soft]` for any crops, (n, 2 * classes) float32; arguments and errors as in `soft_at`.

        The hard label of a crop is that of its windows where they agree, NaN where they do not.
        Example:
          >>> labels.y_true_at(["c0"], start_s=[0.05], how="nearest").shape
          (1, 6)
        """
        crops = self._crops(clip_ids, start_s, duration_s, how)
        return weighted_labels(crops, self.y_true, 2 * len(self.classes))

    def _crops(self, clip_ids: Sequence[str], start_s: Any, duration_s: Any, how: CropRule) -> CropRows:
        if self.windows != "each":
            raise JoinError(f"windows={self.windows!r} left no windows to interpolate; join with windows='each'")
        return crop_rows(self._saved.arrays, self._saved.clip_rows(clip_ids), start_s, duration_s, self.window, how)

    def runs(self) -> Runs:
        """Where the windows follow each other without a gap."""
        return runs_of(self._saved.arrays, self.window)

    def cropped(
        self, rows: np.ndarray, start: np.ndarray, length: np.ndarray, how: CropRule, *, embedding: bool = False
    ) -> list[np.ndarray]:
        """`y_true_at`, and if asked `embedding_at`, of crops of the clips of rows; see `batches.rows`."""
        arrays = self._saved.arrays
        clip_row = arrays.clip_row[rows].astype(np.int64)
        crops = rows_alone(rows_of_crops(arrays, clip_row, start, length, self.window, how))
        y_true = weighted_labels(crops, self.y_true, 2 * len(self.classes))
        return [y_true, *([mean_embeddings(crops, self._embeddings())] if embedding else [])]

    @property
    def embedding_width(self) -> int:
        """How many numbers the teacher's embedding of a row has. Raises: JoinError: there is none."""
        return checked_embedding(self._saved)["width"]

    def embedding(self, rows: Rows = None, out: np.ndarray | None = None) -> np.ndarray:
        """The teacher's embeddings of some rows; the array of all is built when somebody first asks.

        Args:
          rows, out: as in `y_true`; out: (n, width) float16.
        Returns: (n, width) float16; a row of NaN where there is none.
        Raises: ValueError: as `y_true`. JoinError: the store keeps none (`softlabels run --embedding` does), several
          teachers were averaged, windows were pooled. StoreError: the store is not there to build the array from.
        Example:
          >>> labels.embedding([0, 1]).shape  # (rows, width)
          (2, 5)
        """
        kept, rows = self._embeddings(), checked_rows(rows, len(self))
        shape = (len(rows), kept.shape[1])
        if out is None:
            out = aligned_empty(shape, HALF)
        elif out.shape != shape or out.dtype != HALF:
            raise ValueError(f"out: expected float16 of shape {shape}, got {out.dtype} {out.shape}")
        return kept.checked(rows).take(rows, axis=0, out=out, mode="clip")  # checked: so "clip" only spares a buffer

    def embedding_at(
        self, clip_ids: Sequence[str], start_s: Any, duration_s: Any = None, *, how: CropRule = "linear"
    ) -> np.ndarray:
        """The teacher's embedding of any crops, (n, width) float16; arguments and errors as in `soft_at`.

        Example:
          >>> labels.embedding_at(["c0"], start_s=[0.05]).shape
          (1, 5)
        """
        return mean_embeddings(self._crops(clip_ids, start_s, duration_s, how), self._embeddings())

    def _embeddings(self) -> CheckedRows:
        opened = self._saved.opened
        if "embeddings" not in opened:
            opened["embeddings"] = open_embeddings(self._saved, lambda: store_of(self._saved, who="embedding"))
        return opened["embeddings"]

    def best_windows(self, clip_id: str, k: int = 1) -> np.ndarray:
        """The rows of a clip in which the teacher hears its labelled classes best, best first, at most k.

        A clip without a positive label is ranked by whatever class the teacher hears. Returns: (<= k,) int64 rows.
        Example:
          >>> len(labels.best_windows("c0", k=2))
          2
        """
        (first,), (end,) = self._saved.arrays.rows_of(self._saved.clip_rows([clip_id]))
        return best_rows(self.y_true, np.arange(first, end))[:k]

    def sampling_weights(self) -> np.ndarray:
        """How often to draw each row: clips equally, a clip's windows by how well the teacher hears its label.

        Returns: (rows,) float64; the rows of a clip sum to 1. `make_dataset(..., sampling_weights=...)` draws by them.
        Example:
          >>> labels.sampling_weights().sum()  # each of the six clips has a weight of 1
          np.float64(6.0)
        """
        return sampling_weights(self.y_true, self._saved.arrays.clip_row)

    def sound_of(self, row: int) -> WindowSound:
        """Where the sound of a row is."""
        arrays = self._saved.arrays
        (clip,) = arrays.clips.slice(int(arrays.clip_row[row]), 1).to_pylist()
        return WindowSound.of_clip(clip, int(arrays.window_index[row]), self.window)

    def row_sounds(self) -> RowSounds:
        """Where the sound of all rows is; it is kept beside the join, that of saved labels in the user's cache."""
        arrays, saved = self._saved.arrays, self._saved
        folder = saved.path.parent if saved.is_kept else user_folder() / "audio"
        places = {"clips": arrays.clips, "clip_row": arrays.clip_row, "window_index": arrays.window_index}
        return RowSounds(**places, window=self.window, root=self.root, folder=folder)

    def sounds_of(self, rows: np.ndarray) -> list[WindowSound]:
        """Where the sound of each row is."""
        arrays = self._saved.arrays
        return WindowSound.of_rows(arrays.clips, arrays.clip_row[rows], arrays.window_index[rows], self.window)

    def places(self) -> RowPlaces:
        """In which recording each row is, and where in it."""
        arrays = self._saved.arrays
        return RowPlaces.of_rows(arrays.clips, arrays.clip_row, arrays.window_index, self.window)

    def pooled_clips(self) -> list[str]:
        """The clips of which several windows became one row, by id."""
        if self.windows == "each":
            return []
        table = self._saved.arrays.clips
        return sorted(np.array(table["clip_id"].to_pylist(), object)[table["windows"].to_numpy() > 1])
