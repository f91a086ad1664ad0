"""JoinedLabels: hard and soft labels side by side, row by row; what `join` gives and training reads.

Rows are windows, in the order of the manifest. What is big is memory-mapped, so ten million rows open in an instant,
a pickle is a path, and processes share the pages.
"""

import dataclasses
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from softlabels.annotated import Annotated, annotated_clips
from softlabels.batches import Batches, Features
from softlabels.calibrate import calibrate
from softlabels.calibration_map import Method
from softlabels.calibration_report import CalibrationReport
from softlabels.classes import ClassList
from softlabels.crops import CropRows, How, crop_rows, weighted_labels
from softlabels.errors import JoinError
from softlabels.exclusive import Exclusive
from softlabels.gather import checked_rows, fill
from softlabels.guided import best_rows, sampling_weights
from softlabels.join_report import JoinReport
from softlabels.location import Location, location
from softlabels.read_steps import Step, step_of
from softlabels.saved_join import JoinArrays, open_join, write_join
from softlabels.soft_array import Pooling, open_soft
from softlabels.spec import Activation, canonical_json
from softlabels.trust import class_trust
from softlabels.windows import WindowSpec

if TYPE_CHECKING:
    import grain
    import pandas as pd

    from softlabels.keras_dataset import LabelPyDataset

Rows = Sequence[int] | np.ndarray | None


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinedLabels:
    """Hard and soft labels of the same windows. `len(labels)` is the number of rows.

    classes: the student's class list; activation: of the labels as they are read. window: the grid on which the
    teacher scored; windows: how a row came from the windows of a clip. report: what was matched and what was left out.
    path: the folder that holds the join; root: the folder or URL below which the audio is. fingerprint: of all that
    went in.
    class_trust: (classes,) float in [0, 1], how far the teacher is believed on each class; None is fully.
    calibration: what `calibrate` found; None before.
    """

    classes: ClassList
    activation: Activation
    window: WindowSpec
    windows: Pooling
    report: JoinReport
    path: Path
    root: Location
    fingerprint: str
    class_trust: np.ndarray | None = None
    calibration: CalibrationReport | None = None
    _arrays: JoinArrays
    _header: dict[str, Any]
    _table: np.ndarray | None  # the hard label of every group, where that is small
    _steps: tuple[Step, ...] = ()  # what is done to rows when they are read
    _positions: dict[str, int] = field(default_factory=dict)  # of clips by id; filled when a crop first asks

    @classmethod
    def open(
        cls, path: Path, *, root: Location | None = None, verify: bool = False, bare: bool = False
    ) -> "JoinedLabels":
        """Open a join on disk; see `load_labels`. bare: without the read steps and the trust it was saved with."""
        header, arrays = open_join(path, verify=verify)
        classes = ClassList(tuple(header["classes"]))
        labels = cls(
            classes=classes,
            activation=header["activation"],
            window=WindowSpec(**header["window"]),
            windows=header["windows"],
            report=JoinReport.from_json(header["report"]),
            path=path.resolve(),  # a pickle may be opened elsewhere
            root=location(header["root"]) if root is None else root,
            fingerprint=header["fingerprint"],
            _arrays=arrays,
            _header=header,
            _table=arrays.hard.table(len(classes)),
        )
        if bare:
            return labels
        trust, calibration = header["class_trust"], header["calibration"]
        return dataclasses.replace(
            labels._behind([step_of(settings) for settings in header["steps"]]),
            class_trust=None if trust is None else np.array(trust),
            calibration=None if calibration is None else CalibrationReport.from_json(calibration),
        )

    def __len__(self) -> int:
        return len(self._arrays.clip)

    def __repr__(self) -> str:
        return f"JoinedLabels({len(self)} rows, {len(self.classes)} classes, {self.activation})"

    def __reduce__(self) -> tuple:
        return _reopen, (self.path, self.fingerprint, self.root, self._steps, self.class_trust, self.calibration)

    @property
    def keys(self) -> "pd.DataFrame":
        """What each row is: clip_id, window_index, start_s in its file, split and fold of its clip."""
        import pandas as pd

        arrays = self._arrays
        of_clip = {name: arrays.clips[name].to_numpy()[arrays.clip] for name in ("clip_id", "split", "fold")}
        return pd.DataFrame(
            {
                "clip_id": of_clip["clip_id"],
                "window_index": np.array(arrays.window_index),
                "start_s": np.array(arrays.start_s),
                "split": of_clip["split"],
                "fold": of_clip["fold"],
            }
        )

    def hard(self, rows: Rows = None) -> np.ndarray:
        """(rows, classes) float32: 1 annotated, 0 annotated as absent, NaN not annotated. None is all rows."""
        return self.y_true(rows)[:, : len(self.classes)]

    def soft(self, rows: Rows = None) -> np.ndarray:
        """(rows, classes) float32 teacher probabilities; NaN where the teacher said nothing. None is all rows."""
        return self.y_true(rows)[:, len(self.classes) :]

    def y_true(self, rows: Rows = None, out: np.ndarray | None = None) -> np.ndarray:
        """The labels of some rows, as `DistillationLoss` takes them.

        Args:
          rows: (n,) row numbers, in any order, repeated or not; None is all rows.
          out: (n, 2 * classes) float32 to write to; None makes one.
        Returns: (n, 2 * classes) float32, `[hard | soft]`.
        Raises: ValueError: a row number outside the join, or `out` of another shape or type.
        """
        rows = checked_rows(rows, len(self))
        width = 2 * len(self.classes)
        if out is None:
            out = np.empty((len(rows), width), np.float32)
        elif out.shape != (len(rows), width) or out.dtype != np.float32:
            raise ValueError(f"out: expected float32 of shape {(len(rows), width)}, got {out.dtype} {out.shape}")
        if not self._steps:
            fill(self._arrays, self._table, rows, out[:, : width // 2], out[:, width // 2 :])
            return out
        hard, soft = np.empty((2, len(rows), self._arrays.soft.shape[1]), np.float32)
        fill(self._arrays, self._table, rows, hard, soft)
        for step in self._steps:
            hard, soft = step.apply(hard, soft)
        out[:, : width // 2], out[:, width // 2 :] = hard, soft
        return out

    def soft_at(
        self, clip_ids: Sequence[str], start_s: Any, duration_s: Any = None, *, how: How = "linear"
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
        """
        return self.y_true_at(clip_ids, start_s, duration_s, how=how)[:, len(self.classes) :]

    def y_true_at(
        self, clip_ids: Sequence[str], start_s: Any, duration_s: Any = None, *, how: How = "linear"
    ) -> np.ndarray:
        """`[hard | soft]` for any crops, (n, 2 * classes) float32; arguments and errors as in `soft_at`.

        The hard label of a crop is that of its windows where they agree, NaN where they do not.
        """
        if self.windows != "each":
            raise JoinError(f"windows={self.windows!r} left no windows to interpolate; join with windows='each'")
        taken: CropRows = crop_rows(self._arrays, self._clip_positions(clip_ids), start_s, duration_s, self.window, how)
        return weighted_labels(taken, lambda rows, out: self.y_true(rows, out), 2 * len(self.classes))

    def best_windows(self, clip_id: str, k: int = 1) -> np.ndarray:
        """The rows of a clip in which the teacher hears its labelled classes best, best first, at most k.

        A clip without a positive label is ranked by whatever class the teacher hears. Returns: (<= k,) int64 rows.
        """
        (first,), (behind,) = self._arrays.rows_of(self._clip_positions([clip_id]))
        return best_rows(self, np.arange(first, behind))[:k]

    def sampling_weights(self) -> np.ndarray:
        """How often to draw each row: clips equally, a clip's windows by how well the teacher hears its label.

        Returns: (rows,) float64; the rows of a clip sum to 1. `make_dataset(..., sampling_weights=...)` draws by them.
        """
        return sampling_weights(self, self._arrays.clip)

    def exclusive(self, rest: bool = True, min_mass: float = 0.01) -> "JoinedLabels":
        """A sigmoid teacher's labels as distributions over classes that exclude each other, for a softmax student.

        A row becomes what the teacher would say if at most one of the classes were there: odds p / (1 - p), beside odds
        of 1 for none of them, which is the class "rest". Applied when rows are read; the store stays as it is.

        Args:
          rest: add the class "rest" behind the others; hard labels "noise" become it. False leaves it out.
          min_mass: a row whose probabilities sum to less is missing, so that a silent one does not become a bird.
        Raises: ValueError: the labels are exclusive already, or min_mass is not in [0, 1).
        """
        if self.activation == "softmax":
            raise ValueError("exclusive: the labels are distributions already (activation 'softmax')")
        return self._behind([Exclusive(rest=rest, min_mass=min_mass)])

    def calibrate(self, method: Method = "platt", per_class: bool = True, folds: int = 5) -> "JoinedLabels":
        """The same labels, with probabilities that fit the annotated clips; applied when rows are read.

        A map is fitted on all annotated clips (the maxima of their windows; windows annotated in time count singly)
        but those of split "teacher", by penalised maximum likelihood: with a normal prior, the shared slope and shift
        are 1 +- 1 and 0 +- 3, a class's own the shared ones +- 0.5 and +- 1.5 (standard deviations), so a class with
        few positives stays near the shared map. Before, the same is done on folds of recordings (the manifest's
        `fold`, else `path`) and measured on those left out: a map that does not beat the labels as they are by two
        standard errors, or the shared map by one, is not used, and `calibration`, the report, says so. So it does with
        less than 20 annotated clips.

        Before `exclusive()` each class is made right by itself; behind it, as a share of its row. Where every clip has
        one class and the student a softmax, `exclusive().calibrate()` is the better order.

        Args:
          method: "platt" (slope and shift of the log-odds; under softmax of the log probabilities), "temperature"
            (slope only; one for all classes under softmax), "beta" (independent classes only: a slope for each side,
            and a shift), or "none", which only measures. Slopes are never negative; 0 and 1 count as 2^-24 off.
          per_class: a map for each class, not one for all; more than 300 classes under one softmax share theirs.
          folds: to measure on; fewer where there are fewer recordings.
        Raises: ValueError: an unknown method, one that does not fit, or labels that are calibrated already.
        """
        if any(step.settings()["step"] == "calibrated" for step in self._steps):
            raise ValueError("calibrate: the labels are calibrated already; start again from the labels that join gave")
        step, report = calibrate(
            self._annotated(), self.classes, self.activation, method=method, per_class=per_class, folds=folds
        )
        return dataclasses.replace(self._behind([step] if step else []), calibration=report)

    def trust(self) -> "JoinedLabels":
        """The same labels with `class_trust` from how well the teacher ranks the annotated clips of each class.

        Trust is (average precision - prevalence) / (1 - prevalence), from 0, for chance, to 1; drawn towards the mean
        over classes as if five more positives had said so, which is all that a class without positives has. The
        teacher has not seen these clips (those of split "teacher" are left out), and a monotone map changes no rank,
        so calibration makes no difference. With less than ten positives nothing changes, and a warning says so.
        """
        trust = class_trust(self._annotated())
        return self if trust is None else dataclasses.replace(self, class_trust=trust)

    def save(self, path: str | Path) -> Path:
        """Write the join as a folder of its own, to train from without the store; `load_labels` opens it.

        Raises: JoinError: there is something at `path` already.
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
        soft = self.path / self._header["soft"]
        open_soft(soft, self._arrays.soft.shape, verify=True)  # what is damaged is not passed on
        write_join(path, self._arrays, {**self._header, **changed}, soft=soft, copy=True)
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
        """
        from softlabels.keras_dataset import LabelPyDataset

        return LabelPyDataset(
            Batches(self, batch_size, features, rate_hz, shuffle, seed, sampling_weights=sampling_weights),
            workers=workers,
        )

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
        """
        from softlabels.grain_dataset import grain_dataset

        batches = Batches(self, batch_size, features, rate_hz, shuffle, seed, sampling_weights=sampling_weights)
        return grain_dataset(batches, epochs)

    def clip_of(self, row: int) -> tuple[dict[str, Any], int]:
        """The clip of a row, as a dictionary of manifest and probe, and the row's window_index."""
        arrays = self._arrays
        (clip,) = arrays.clips.slice(int(arrays.clip[row]), 1).to_pylist()
        return clip, int(arrays.window_index[row])

    def pooled_clips(self) -> list[str]:
        """The clips of which several windows became one row, by id."""
        if self.windows == "each":
            return []
        table = self._arrays.clips
        return sorted(np.array(table["clip_id"].to_pylist(), object)[table["windows"].to_numpy() > 1])

    def _behind(self, steps: Sequence[Step]) -> "JoinedLabels":
        """The labels as further steps leave them."""
        labels = self
        for step in steps:
            made = [labels.fingerprint, step.settings()]
            labels = dataclasses.replace(
                labels,
                activation=step.activation,
                classes=step.classes(labels.classes),
                fingerprint=hashlib.sha256(canonical_json(made)).hexdigest(),
                class_trust=step.trust(labels.class_trust),
                _steps=(*labels._steps, step),
            )
        return labels

    def _annotated(self) -> Annotated:
        return annotated_clips(self._arrays, self.y_true, self.classes, self.activation)

    def _clip_positions(self, clip_ids: Sequence[str]) -> np.ndarray:
        if not self._positions:
            self._positions.update((clip, i) for i, clip in enumerate(self._arrays.clips["clip_id"].to_pylist()))
        try:
            found = [self._positions[i.decode() if isinstance(i, bytes) else i] for i in clip_ids]
        except KeyError as e:
            raise ValueError(
                f"clip_ids: {e.args[0]!r} is not a clip of this join of {self._arrays.clips.num_rows}"
            ) from e
        return np.array(found, np.int64)


def load_labels(path: str | Path, *, root: str | Path | None = None, verify: bool = True) -> JoinedLabels:
    """Open labels that `JoinedLabels.save` wrote.

    Args:
      path: the folder.
      root: where the audio is now; None is where it was.
      verify: hold every byte against its digest (about a second a gigabyte), not only the sizes.
    Raises: JoinError: not a saved join, of a newer version, or damaged.
    """
    return JoinedLabels.open(Path(path), root=None if root is None else location(root), verify=verify)


def _reopen(
    path: Path,
    fingerprint: str,
    root: Location,
    steps: tuple[Step, ...],
    trust: np.ndarray | None,
    calibration: CalibrationReport | None,
) -> JoinedLabels:
    """Unpickle: what was made of the labels comes with the pickle, the arrays from disk."""
    labels = JoinedLabels.open(path, root=root, bare=True)._behind(steps)
    if labels.fingerprint != fingerprint:
        raise JoinError(
            f"'{path}' was replaced since the pickle was made: expected fingerprint {fingerprint}, got "
            f"{labels.fingerprint}; pickle the labels that are there now"
        )
    return dataclasses.replace(labels, class_trust=trust, calibration=calibration)
