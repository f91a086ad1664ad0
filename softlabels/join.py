"""join(): manifest x store -> JoinedLabels. Rows meet by (clip_id, window_index), never by position.

One row of the result is one window of one manifest clip, in the order of the manifest. Nothing is lost
silently: every window is a row, or it is counted in the report.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from softlabels.classes import ClassList, as_class_list, match_classes
from softlabels.errors import JoinError
from softlabels.hard_labels import HardLabels
from softlabels.join_report import JoinReport
from softlabels.joined_rows import JoinedRows, Missing, find_rows, pool_rows
from softlabels.manifest import Clip, read_manifest
from softlabels.soft_array import Pooling, soft_array
from softlabels.spec import Activation

if TYPE_CHECKING:
    import pandas as pd

    from softlabels.store import SoftLabelStore


def join(
    store: "SoftLabelStore",
    manifest: str | Path,
    *,
    classes: ClassList | Sequence[str] | str | Path | None = None,
    split: str | None = None,
    missing: Missing = "error",
    windows: Pooling = "each",
    root: str | Path | None = None,
    cache_dir: str | Path | None = None,
) -> "JoinedLabels":
    """Join hard labels from a manifest with soft labels from a store.

    Args:
      store: an opened store.
      manifest: the CSV, read and checked anew.
      classes: the student's class list: names, a list object or a text file; None is the teacher's. A class
        that the teacher lacks has NaN as soft label.
      split: keep only clips of this split; None keeps all.
      missing: what to do with a window that the store has no label for: "error" raises, "drop" leaves it out,
        "hard" keeps its hard label with NaN as soft label. Quarantined windows are left out and counted.
      windows: "each" gives one row a window; "max" and "mean" pool the windows of a clip into one row.
      root: the folder that the manifest's paths are relative to; None is where the labelling run found them if
        that is there, else the manifest's folder.
      cache_dir: where the array of soft labels is kept; None is inside the store.
    Raises: ManifestError, StoreError: faulty inputs; ClassListError, JoinError: they do not fit together.
    """
    _check_choice("missing", missing, ("error", "drop", "hard"))
    _check_choice("windows", windows, ("each", "max", "mean"))
    clips = _clips_of_split(read_manifest(manifest), split, manifest)
    student = store.classes if classes is None else as_class_list(classes)
    matches = match_classes(student, store.classes)
    hard = HardLabels.of(clips, student, manifest)
    rows = find_rows(clips, store.index, missing, str(store.storage))
    if windows != "each":
        rows = pool_rows(rows)
    return JoinedLabels(
        store=store,
        classes=student,
        clips=clips,
        report=JoinReport.of(clips, rows, hard.annotated, student, matches),
        windows=windows,
        root=_audio_root(store, manifest, root),
        _rows=rows,
        _hard=hard,
        _soft=soft_array(store, rows, matches.columns, windows, cache_dir),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinedLabels:
    """Hard and soft labels side by side, row by row. `len(labels)` is the number of rows.

    store, classes, clips, windows, root: what was joined: the store, the student's class list, the manifest's
    clips, the pooling, the audio root. report: what was matched and what was left out.
    class_trust: (classes,) float in [0, 1], how far the teacher is believed on each class; None is fully.
    """

    store: "SoftLabelStore"
    classes: ClassList
    clips: list[Clip]
    report: JoinReport
    windows: Pooling
    root: Path
    class_trust: np.ndarray | None = None
    _rows: JoinedRows
    _hard: HardLabels
    _soft: np.ndarray

    def __len__(self) -> int:
        return len(self._rows)

    def __repr__(self) -> str:
        return f"JoinedLabels({len(self)} rows, {len(self.classes)} classes, {self.activation})"

    @property
    def activation(self) -> Activation:
        return self.store.activation

    @property
    def keys(self) -> "pd.DataFrame":
        """What each row is: clip_id, window_index, start_s in its file, split and fold of its clip."""
        import pandas as pd

        return pd.DataFrame(
            {
                "clip_id": np.array([clip.clip_id for clip in self.clips], object)[self._rows.clip],
                "window_index": self._rows.window_index,
                "start_s": self._rows.start_s,
                "split": np.array([clip.split for clip in self.clips], object)[self._rows.clip],
                "fold": np.array([clip.fold for clip in self.clips], object)[self._rows.clip],
            }
        )

    def clip_of(self, row: int) -> tuple[Clip, int]:
        """The clip and the window_index of a row."""
        return self.clips[self._rows.clip[row]], int(self._rows.window_index[row])

    def hard(self, rows: Sequence[int] | np.ndarray | None = None) -> np.ndarray:
        """(rows, classes) float32: 1 annotated, 0 annotated as absent, NaN not annotated. None is all rows."""
        return self._hard.rows(self._rows.clip[self._all_if_none(rows)])

    def soft(self, rows: Sequence[int] | np.ndarray | None = None) -> np.ndarray:
        """(rows, classes) float32 teacher probabilities; NaN where the teacher said nothing. None is all rows."""
        return np.asarray(self._soft[self._all_if_none(rows)])

    def y_true(self, rows: Sequence[int] | np.ndarray | None = None) -> np.ndarray:
        """(rows, 2 * classes) float32, `[hard | soft]`: what `DistillationLoss` takes. None is all rows."""
        rows = self._all_if_none(rows)
        return np.concatenate([self.hard(rows), self.soft(rows)], axis=1)

    def _all_if_none(self, rows: Sequence[int] | np.ndarray | None) -> np.ndarray:
        if rows is None:
            return np.arange(len(self))
        rows = np.asarray(rows)
        if (
            rows.dtype.kind not in "iu"
            or rows.ndim != 1
            or (len(rows) and not 0 <= rows.min() <= rows.max() < len(self))
        ):
            raise ValueError(f"rows: expected row numbers from 0 to {len(self) - 1}, got {rows!r}")
        return rows


def _audio_root(store: "SoftLabelStore", manifest: str | Path, root: str | Path | None) -> Path:
    if root is not None:
        return Path(root)
    hinted = store.hints().get("audio_root")
    return Path(hinted) if hinted and Path(hinted).is_dir() else Path(manifest).resolve().parent


def _clips_of_split(clips: list[Clip], split: str | None, manifest: str | Path) -> list[Clip]:
    if split is None:
        return clips
    chosen = [clip for clip in clips if clip.split == split]
    if not chosen:
        have = sorted({clip.split for clip in clips})
        raise JoinError(f"manifest '{manifest}': no clip has split {split!r}; it has {', '.join(map(repr, have))}")
    return chosen


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name}: expected one of {', '.join(map(repr, choices))}, got {value!r}")
