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

from softlabels.batches import Batches, Features
from softlabels.classes import ClassList
from softlabels.crops import CropRows, How, crop_rows, weighted_labels
from softlabels.errors import JoinError
from softlabels.exclusive import Exclusive
from softlabels.guided import best_rows, sampling_weights
from softlabels.join_report import JoinReport
from softlabels.location import Location, location
from softlabels.saved_join import JoinArrays, open_join, write_join
from softlabels.soft_array import Pooling, open_soft
from softlabels.spec import Activation, canonical_json
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
    _arrays: JoinArrays
    _header: dict[str, Any]
    _table: np.ndarray | None  # the hard label of every group, where that is small
    _exclusive: Exclusive | None = None
    _positions: dict[str, int] = field(default_factory=dict)  # of clips by id; filled when a crop first asks

    @classmethod
    def open(cls, path: Path, *, root: Location | None = None, verify: bool = False) -> "JoinedLabels":
        """Open a join on disk; see `load_labels`."""
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
        if header["exclusive"] is not None:
            labels = labels.exclusive(**header["exclusive"])
        trust = header["class_trust"]
        return dataclasses.replace(labels, class_trust=None if trust is None else np.array(trust))

    def __len__(self) -> int:
        return len(self._arrays.clip)

    def __repr__(self) -> str:
        return f"JoinedLabels({len(self)} rows, {len(self.classes)} classes, {self.activation})"

    def __reduce__(self) -> tuple:
        settings = None if self._exclusive is None else self._exclusive.settings()
        return _reopen, (self.path, self.fingerprint, self.root, self.class_trust, settings)

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
        rows = self._checked(rows)
        width = 2 * len(self.classes)
        if out is None:
            out = np.empty((len(rows), width), np.float32)
        elif out.shape != (len(rows), width) or out.dtype != np.float32:
            raise ValueError(f"out: expected float32 of shape {(len(rows), width)}, got {out.dtype} {out.shape}")
        if self._exclusive is None:
            self._fill(rows, out[:, : width // 2], out[:, width // 2 :])
        else:
            hard, soft = np.empty((2, len(rows), self._arrays.soft.shape[1]), np.float32)
            self._fill(rows, hard, soft)
            self._exclusive.convert(hard, soft, out)
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
        exclusive = Exclusive(rest=rest, min_mass=min_mass)
        made = [self.fingerprint, exclusive.settings()]
        return dataclasses.replace(
            self,
            activation="softmax",
            classes=exclusive.classes(self.classes),
            fingerprint=hashlib.sha256(canonical_json(made)).hexdigest(),
            class_trust=exclusive.trust(self.class_trust),
            _exclusive=exclusive,
        )

    def save(self, path: str | Path) -> Path:
        """Write the join as a folder of its own, to train from without the store; `load_labels` opens it.

        Raises: JoinError: there is something at `path` already.
        """
        path = Path(path)
        if path.exists():
            raise JoinError(f"'{path}' is there already: delete it first, or save under another name")
        settings = None if self._exclusive is None else self._exclusive.settings()
        trust = None if self.class_trust is None else [float(x) for x in self.class_trust]
        changed = {"exclusive": settings, "class_trust": trust, "root": str(self.root)}
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

    def _fill(self, rows: np.ndarray, hard: np.ndarray, soft: np.ndarray) -> None:
        """Write both halves of some rows, each (n, classes) and perhaps strided."""
        arrays = self._arrays
        groups = arrays.hard_group.take(rows)
        if self._table is None:
            arrays.hard.rows(groups, hard.shape[1], out=hard)
        else:
            _gather(self._table, groups, hard)
        _gather(arrays.soft, rows, soft)

    def _checked(self, rows: Rows) -> np.ndarray:
        if rows is None:
            return np.arange(len(self))
        rows = np.asarray(rows) if len(rows) else np.zeros(0, np.int64)
        if rows.dtype.kind not in "iu" or rows.ndim != 1:
            raise ValueError(f"rows: expected row numbers from 0 to {len(self) - 1}, got {rows!r}")
        # As unsigned numbers negative ones are huge: one pass over the rows checks both ends.
        if len(rows) and rows.astype(np.int64, copy=False).view(np.uint64).max() >= len(self):
            raise ValueError(f"rows: expected row numbers from 0 to {len(self) - 1}, got {rows!r}")
        return rows

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


def _gather(source: np.ndarray, rows: np.ndarray, out: np.ndarray) -> None:
    """out[...] = source[rows]; `out` may be strided.

    Long rows are copied one by one, straight to where they belong; short ones through a block that stays in cache.
    Row numbers are checked before, so "clip" never clips: it only spares NumPy a second buffer.
    """
    if source.shape[1] >= 2048:
        for i, row in enumerate(rows.tolist()):
            out[i] = source[row]
    else:
        out[...] = source.take(rows, axis=0, mode="clip")


def _reopen(
    path: Path, fingerprint: str, root: Location, trust: np.ndarray | None, exclusive: dict[str, Any] | None
) -> JoinedLabels:
    """Unpickle: the settings come with the pickle, the arrays from disk."""
    labels = JoinedLabels.open(path, root=root)
    if exclusive is not None and labels._exclusive is None:
        labels = labels.exclusive(**exclusive)
    if labels.fingerprint != fingerprint:
        raise JoinError(
            f"'{path}' was replaced since the pickle was made: expected fingerprint {fingerprint}, got "
            f"{labels.fingerprint}; pickle the labels that are there now"
        )
    return dataclasses.replace(labels, class_trust=trust)
