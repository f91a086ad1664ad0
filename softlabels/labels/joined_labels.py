"""JoinedLabels: hard and soft labels side by side, row by row; what `join` gives and training reads.

Rows are windows, in the order of the manifest. What is big is memory-mapped, so ten million rows open in an instant,
a pickle is a path, and processes share the pages.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from softlabels.batches.rows import CropRule, Pooling, WindowSound
from softlabels.batches.stream import Batches, Features
from softlabels.calibration.calibrate import calibrate
from softlabels.calibration.examples import Annotated
from softlabels.calibration.maps import Calibrated, Method
from softlabels.calibration.report import CalibrationReport
from softlabels.calibration.trust import class_trust
from softlabels.classes.class_list import Activation, ClassList
from softlabels.digests import sha256_of
from softlabels.errors import JoinError
from softlabels.labels.arrays import annotated_clips, checked_rows, fill
from softlabels.labels.crops import crop_rows, weighted_labels
from softlabels.labels.report import JoinReport
from softlabels.labels.sampling import best_rows, sampling_weights
from softlabels.labels.saved import SavedJoin, open_join, write_join
from softlabels.labels.soft_file import open_soft
from softlabels.labels.steps import Exclusive, Step, step_of
from softlabels.storage.location import Location, location
from softlabels.windows import WindowSpec

if TYPE_CHECKING:
    import grain
    import pandas as pd

    from softlabels.batches.keras_dataset import LabelPyDataset

Rows = Sequence[int] | np.ndarray | None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class JoinedLabels:
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

    @classmethod
    def open(cls, path: Path, *, root: Location | None = None, verify: bool = False) -> "JoinedLabels":
        """Open a join on disk, with the read steps and the trust it was saved with; see `load_labels`."""
        saved = open_join(path, verify=verify)
        trust, calibration = saved.header["class_trust"], saved.header["calibration"]
        return cls(
            root=location(saved.header["root"]) if root is None else root,
            class_trust=None if trust is None else np.array(trust),
            calibration=None if calibration is None else CalibrationReport.from_json(calibration),
            _saved=saved,
            _steps=tuple(step_of(settings) for settings in saved.header["steps"]),
        )

    def __len__(self) -> int:
        return len(self._saved.arrays)

    def __repr__(self) -> str:
        return f"JoinedLabels({len(self)} rows, {len(self.classes)} classes, {self.activation})"

    def __reduce__(self) -> tuple:
        changed = {name: getattr(self, name) for name in ("root", "class_trust", "calibration", "_steps")}
        return _reopen, (self.path, self.fingerprint, changed)

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
            out = np.empty((len(rows), width), np.float32)
        elif out.shape != (len(rows), width) or out.dtype != np.float32:
            raise ValueError(f"out: expected float32 of shape {(len(rows), width)}, got {out.dtype} {out.shape}")
        hard, soft = out[:, : width // 2], out[:, width // 2 :]
        if self._steps:
            hard, soft = np.empty((2, len(rows), arrays.soft.shape[1]), np.float32)
        fill(arrays, self._saved.table, rows, hard, soft)
        for step in self._steps:
            hard, soft = step.apply(hard, soft)
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
        if self.windows != "each":
            raise JoinError(f"windows={self.windows!r} left no windows to interpolate; join with windows='each'")
        taken = crop_rows(self._saved.arrays, self._saved.clip_rows(clip_ids), start_s, duration_s, self.window, how)
        return weighted_labels(taken, self.y_true, 2 * len(self.classes))

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

    def exclusive(self, rest: bool = True, min_mass: float | None = None) -> "JoinedLabels":
        """A sigmoid teacher's labels as distributions over classes that exclude each other, for a softmax student.

        A row becomes what the teacher would say if at most one of the classes were there: odds p / (1 - p), beside odds
        of 1 for none of them, which is the class "rest". Applied when rows are read; the store stays as it is.

        Args:
          rest: add the class "rest" after the others; hard labels "noise" become it. False leaves it out.
          min_mass: a row whose probabilities sum to less is missing; None is 0 with the rest and 0.01 without.
        Raises: ValueError: the labels are exclusive already, or min_mass is not in [0, 1).
        Example:
          >>> labels.exclusive(rest=True).classes[-1]
          'rest'
        """
        if self.activation == "softmax":
            raise ValueError("exclusive: the labels are distributions already (activation 'softmax')")
        least = (0.0 if rest else 0.01) if min_mass is None else min_mass
        return self._then(Exclusive(rest=rest, min_mass=least))

    def calibrate(self, method: Method = "platt", per_class: bool = True, folds: int = 5) -> "JoinedLabels":
        """The same labels, with probabilities that fit the annotated clips; applied when rows are read.

        A map is fitted on all annotated clips (the maxima of their windows; windows annotated in time count singly)
        but those of split "teacher", by penalised maximum likelihood. The priors are normal: 1 +- 1 and 0 +- 3 for the
        shared slope and shift, the shared ones +- 0.5 and +- 1.5 for a class's own, so one with few positives stays
        near the shared map. On folds of recordings (the manifest's `fold`, else `path`) left out, a map has to beat the
        labels as they are by two standard errors, and the shared map by one, or it is not used; nor is any with less
        than 20 annotated clips. `calibration`, the report, says so.

        Before `exclusive()` each class is made right by itself; after it, as a share of its row. Where every clip has
        one class and the student a softmax, `exclusive().calibrate()` is the better order.

        Args:
          method: "platt" (slope and shift of the log-odds; under softmax of the log probabilities), "temperature"
            (slope only; one for all classes under softmax), "beta" (independent classes only: a slope for each side,
            and a shift), or "none", which only measures. Slopes are never negative; 0 and 1 count as 2^-24 off.
          per_class: a map for each class, not one for all; more than 300 classes under one softmax share theirs.
          folds: to measure on; fewer where there are fewer recordings.
        Raises: ValueError: an unknown method, one that does not fit, or labels that are calibrated already.
        Example:
          >>> labels.calibrate().calibration.used  # six clips are too few: a warning says so
          'none'
        """
        if any(isinstance(step, Calibrated) for step in self._steps):
            raise ValueError("calibrate: the labels are calibrated already; start again from the labels that join gave")
        step, report = calibrate(
            self._annotated(), self.classes, self.activation, method=method, per_class=per_class, folds=folds
        )
        return dataclasses.replace(self if step is None else self._then(step), calibration=report)

    def trust(self) -> "JoinedLabels":
        """The same labels with `class_trust` from how well the teacher ranks the annotated clips of each class.

        Trust is (average precision - prevalence) / (1 - prevalence), from 0, for chance, to 1; drawn towards the mean
        over classes as if five more positives had said so, which is all that a class without positives has. Clips of
        split "teacher" are left out; calibration makes no difference, for it changes no rank. With less than ten
        positives nothing changes, and a warning says so.
        Example:
          >>> labels.trust().class_trust is None  # two positives say nothing of a teacher
          True
        """
        trust = class_trust(self._annotated())
        return self if trust is None else dataclasses.replace(self, class_trust=trust)

    def save(self, path: str | Path) -> Path:
        """Write the join as a folder of its own, to train from without the store; `load_labels` opens it.

        Raises: JoinError: there is something at `path` already.
        Example:
          >>> softlabels.load_labels(labels.save("saved"))
          JoinedLabels(14 rows, 3 classes, sigmoid)
        """
        path = Path(path)
        if path.exists():
            raise JoinError(f"'{path}' is there already: delete it first, or save under another name")
        changed = {
            "steps": [step.settings() for step in self._steps],
            "class_trust": None if self.class_trust is None else [float(x) for x in self.class_trust],
            "calibration": None if self.calibration is None else self.calibration.to_json(),
            "root": str(self.root),
        }
        saved = self._saved
        open_soft(saved.soft_path, saved.arrays.soft.shape, verify=True)  # what is damaged is not passed on
        write_join(path, saved.arrays, {**saved.header, **changed}, soft=saved.soft_path, copy=True)
        return path

    def as_pydataset(
        self,
        batch_size: int = 64,
        features: Features | None = None,
        rate_hz: int | None = None,
        shuffle: bool = False,
        seed: int = 0,
        *,
        sampling_weights: np.ndarray | None = None,
        workers: int = 1,
    ) -> "LabelPyDataset":
        """The batches of `make_dataset` as a `keras.utils.PyDataset`, for Keras on any backend.

        `fit(..., shuffle=False)` keeps their order; by default Keras shuffles whole batches once more.

        Args:
          workers: Keras's threads that prepare batches; the others are as in `make_dataset`.
        Example:
          >>> len(labels.as_pydataset(batch_size=4, shuffle=True))  # batches
          4
        """
        from softlabels.batches.keras_dataset import LabelPyDataset

        batches = Batches(self, batch_size, features, rate_hz, shuffle, seed, sampling_weights=sampling_weights)
        return LabelPyDataset(batches, workers=workers)

    def as_grain(
        self,
        batch_size: int = 64,
        features: Features | None = None,
        rate_hz: int | None = None,
        shuffle: bool = False,
        seed: int = 0,
        *,
        sampling_weights: np.ndarray | None = None,
        epochs: int = 1,
    ) -> "grain.MapDataset":
        """The batches of `make_dataset` as a `grain.MapDataset` of `epochs` epochs; needs the extra `grain`.

        `.to_iter_dataset()` iterates over it with threads, worker processes and a state, as grain does.
        Example:
          >>> len(labels.as_grain(batch_size=4, epochs=2))
          8
        """
        from softlabels.batches.grain_dataset import grain_dataset

        batches = Batches(self, batch_size, features, rate_hz, shuffle, seed, sampling_weights=sampling_weights)
        return grain_dataset(batches, epochs)

    def sound_of(self, row: int) -> WindowSound:
        """Where the sound of a row is."""
        arrays = self._saved.arrays
        (clip,) = arrays.clips.slice(int(arrays.clip_row[row]), 1).to_pylist()
        return WindowSound.of_clip(clip, int(arrays.window_index[row]), self.window)

    def pooled_clips(self) -> list[str]:
        """The clips of which several windows became one row, by id."""
        if self.windows == "each":
            return []
        table = self._saved.arrays.clips
        return sorted(np.array(table["clip_id"].to_pylist(), object)[table["windows"].to_numpy() > 1])

    def _then(self, step: Step) -> "JoinedLabels":
        """The labels as a further step leaves them."""
        trust = step.trust(self.class_trust)
        return dataclasses.replace(self, class_trust=trust, _steps=(*self._steps, step))

    def _annotated(self) -> Annotated:
        return annotated_clips(self._saved.arrays, self.y_true, self.classes, self.activation)


def load_labels(path: str | Path, *, root: str | Path | None = None, verify: bool = True) -> JoinedLabels:
    """Open labels that `JoinedLabels.save` wrote.

    Args:
      path: the folder.
      root: where the audio is now; None is where it was.
      verify: hold every byte against its digest (about a second a gigabyte), not only the sizes.
    Raises: JoinError: not a saved join, of a newer version, or damaged.
    Example:
      >>> labels.save("kept")
      PosixPath('kept')
      >>> len(softlabels.load_labels("kept"))
      14
    """
    return JoinedLabels.open(Path(path), root=None if root is None else location(root), verify=verify)


def _reopen(path: Path, fingerprint: str, changed: dict[str, Any]) -> JoinedLabels:
    """Unpickle: what was made of the labels comes with the pickle, the arrays from disk."""
    labels = JoinedLabels(_saved=open_join(path), **changed)
    if labels.fingerprint != fingerprint:
        raise JoinError(
            f"'{path}' was replaced since the pickle was made: expected fingerprint {fingerprint}, got "
            f"{labels.fingerprint}; pickle the labels that are there now"
        )
    return labels
