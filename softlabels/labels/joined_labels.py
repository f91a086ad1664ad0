"""JoinedLabels: hard and soft labels side by side, row by row; what `join` gives and training reads.

Rows are windows, in the order of the manifest. What is big is memory-mapped, so ten million rows open in an instant,
a pickle is a path, and processes share the pages.
"""

import dataclasses
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from softlabels.batches.trainable import Trainable
from softlabels.calibration.calibrate import calibrate
from softlabels.calibration.maps import Calibrated, Method
from softlabels.calibration.mixture import calibrate_mixture
from softlabels.calibration.published.parameters import published_map
from softlabels.calibration.published.step import PublishedMap
from softlabels.calibration.report import CalibrationReport
from softlabels.errors import JoinError, SoftLabelsError
from softlabels.evidence.examples import Annotated
from softlabels.evidence.trust import class_trust
from softlabels.labels.adapted import adapted_join
from softlabels.labels.arrays import annotated_clips, unannotated_windows, weak_windows
from softlabels.labels.label_rows import LabelRows
from softlabels.labels.reading.embeddings import checked_embedding
from softlabels.labels.reading.origin import store_of
from softlabels.labels.saved import open_join, said_by, write_join
from softlabels.labels.steps import Exclusive, Step, step_of
from softlabels.storage.location import Location, location
from softlabels.storage.unfinished import all_or_nothing
from softlabels.store.own_runs import has_read
from softlabels.store.reader import StoreReader

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class JoinedLabels(LabelRows, Trainable):
    """Hard and soft labels of the same windows, and what can be made of them; see `LabelRows` for what they hold."""

    @classmethod
    def open(cls, path: Path, *, root: Location | None = None, verify: bool = False) -> "JoinedLabels":
        """Open a join on disk, with the read steps and the trust it was saved with; see `load_labels`."""
        saved = open_join(path, verify=verify)
        with said_by(path):
            trust, calibration = saved.header["class_trust"], saved.header["calibration"]
            return cls(
                root=location(saved.header["root"]) if root is None else root,
                class_trust=None if trust is None else np.array(trust, np.float64),
                calibration=None if calibration is None else CalibrationReport.from_json(calibration),
                _saved=saved,
                _steps=tuple(step_of(settings) for settings in saved.header["steps"]),
            )

    def __reduce__(self) -> tuple:
        changed = {name: getattr(self, name) for name in ("root", "class_trust", "calibration", "_steps")}
        return _reopen, (self.path, self.fingerprint, changed)

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

    def calibrate(
        self,
        method: Method | Literal["mixture"] = "platt",
        per_class: bool = True,
        folds: int = 5,
        *,
        parameters: str | Path | None = None,
        mapping: str | Path | None = None,
    ) -> "JoinedLabels":
        """The same labels, with probabilities that fit the annotated clips; applied when rows are read.

        A map is fitted on annotated clips of one window and on the windows of clips annotated in time, but those of
        split "teacher", by penalised maximum likelihood. The priors are normal: 1 +- 1 and 0 +- 3 for the shared slope
        and shift, the shared ones +- 0.5 and +- 1.5 for a class's own, so one with few positives stays near the shared
        map. On folds of recordings (the manifest's `fold`, else `path`) left out, a map has to beat the labels as they
        are by two standard errors over recordings (Student's t), and the shared map by one, or it is not used; nor is
        any with less than 20 examples. Windows of longer clips that nobody annotated in time stay as they are, unless
        20 windows of such clips were. The annotated clips are taken for a random sample; classes that are clearly more
        or less frequent where nobody annotated are corrected for that. `calibration`, the report, says what was done.

        Before `exclusive()` each class is made right by itself; after it, as a share of its row. Where every clip has
        one class and the student a softmax, `exclusive().calibrate()` is the better order.

        Args:
          method: "platt" (slope and shift of the log-odds; under softmax of the log probabilities), "temperature"
            (slope only; one for all classes under softmax), "beta" (independent classes only: a slope for each side,
            and a shift), or "none", which only measures. Slopes are never negative; 0 and 1 count as 2^-24 off.
            "mixture" learns windows from weak labels of long clips, as if windows without the class were alike in all
            clips; where faint songs leak into them, every window of labelled clips gets too much, unnoticed.
          per_class: a map for each class, not one for all; more than 300 classes under one softmax share theirs.
          folds: to measure on; fewer where there are fewer recordings.
          parameters: a CSV of the teacher's authors, a class and its slope and shift, or scikit-learn's A and B, a row:
            nothing is fitted or measured then. mapping: for its names, as in a join.
        Raises: ClassListError: a faulty CSV. ValueError: an unknown method, one that does not fit, or labels that are
          calibrated already.
        Example:
          >>> labels.calibrate().calibration.used  # six clips are too few: a warning says so
          'none'
        """
        if self._adapted or any(isinstance(step, Calibrated | PublishedMap) for step in self._steps):
            raise ValueError("calibrate: the labels are calibrated already; start again from the labels that join gave")
        if parameters is not None:
            if self.activation == "softmax" or self.windows == "mean":
                raise ValueError("parameters: a published calibration is of windows of independent classes")
            published, report = published_map(parameters, self.classes, mapping)
            return dataclasses.replace(self._then(published), calibration=report)
        if method == "mixture":
            if self.activation == "softmax" or self.windows != "each":
                raise ValueError("method: 'mixture' is of windows of independent classes; use 'platt' or 'temperature'")
            step, report = calibrate_mixture(weak_windows(self._saved.arrays, self.y_true), folds)
            return dataclasses.replace(self if step is None else self._then(step), calibration=report)
        known, pooled = self._annotated(), self.windows != "each"
        others = unannotated_windows(self._saved.arrays, self.soft, known.columns, pooled=pooled)
        step, report = calibrate(
            known, self.classes, self.activation, unannotated=others, method=method, per_class=per_class, folds=folds
        )
        return dataclasses.replace(self if step is None else self._then(step), calibration=report)

    def adapt(
        self, method: Method = "platt", folds: int = 5, *, store: StoreReader | str | Path | None = None
    ) -> "JoinedLabels":
        """The same labels after the annotated clips have taught the teacher, also classes that it lacks.

        Of every window the store holds what the teacher gave all of its classes. 64 principal components of that are
        the input of a logistic regression a class, on top of the calibrated labels, fitted on annotated clips of one
        window and on windows annotated in time. Out of fold it has to beat the labels as they are and every calibration
        of them by two standard errors over recordings, or is not used. Annotated clips get what probes gave that had
        not seen them. The new soft half is an array like the old one, as fast to read. `calibration`, the report,
        compares all three.

        Args:
          method: of the calibration below, as in `calibrate`; folds: likewise.
          store: where the labels come from; None is where that was when they were joined. A bucket that only saved
            labels name, and no run of yours made, has to be given.
        Raises: ValueError: labels that are calibrated or exclusive already; JoinError: the store is another one, or
          windows were pooled; StoreError: it is not there.
        Example:
          >>> labels.adapt().calibration.used  # six clips are too few: a warning says so
          'none'
        """
        if self._steps or self._adapted:
            raise ValueError("adapt: the labels were changed already; start again from the labels that join gave")
        path, report = adapted_join(self, self._saved, store_of(self._saved, store), method, folds)
        if path is None:
            return dataclasses.replace(self, calibration=report)
        return dataclasses.replace(self, calibration=report, _saved=open_join(path))

    def recommended(self, folds: int = 5) -> "JoinedLabels":
        """What these annotations speak for: the labels as they are, calibrated, or adapted; see `calibration`.

        That is `adapt()` where the store can be read, and `calibrate()` where it cannot.
        Example:
          >>> print(labels.recommended().calibration)  # doctest: +ELLIPSIS
          calibration           none  (asked: adapted)
          ...
        """
        try:
            store = store_of(self._saved, None)
        except SoftLabelsError as e:
            logger.warning("recommended: calibrated only, for there is no store to ask: %s", e)
            return self.calibrate(folds=folds)
        return self.adapt(folds=folds, store=store)

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
        trust = class_trust(self._annotated(), len(self.classes))
        return self if trust is None else dataclasses.replace(self, class_trust=trust)

    def save(self, path: str | Path, *, embedding: bool = False) -> Path:
        """Write the join as a folder of its own, to train from without the store; `load_labels` opens it.

        Args:
          embedding: with the teacher's embeddings.
        Raises: JoinError: there is something at `path` already. StorageFullError: no room; nothing is left there.
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
        embeddings = self._embeddings() if embedding else None
        if embeddings is not None:
            changed["embedding"] = checked_embedding(self._saved)
            embeddings.check()
        saved = open_join(self.path, verify=True)  # what is damaged is not passed on
        if saved.header != self._saved.header:
            raise JoinError(f"'{self.path}' was replaced since these labels were made; join again, then save")
        with all_or_nothing(path) as temporary:
            write_join(temporary, saved.arrays, {**saved.header, **changed}, soft=None, embeddings=embeddings)
        return path

    def _then(self, step: Step) -> "JoinedLabels":
        """The labels as a further step leaves them."""
        trust = step.trust(self.class_trust)
        return dataclasses.replace(self, class_trust=trust, _steps=(*self._steps, step))

    @property
    def _adapted(self) -> bool:
        return bool(self._saved.header.get("adapted"))

    def _annotated(self) -> Annotated:
        pooled = self.windows != "each"
        return annotated_clips(self._saved.arrays, self.y_true, self.classes, self.activation, pooled=pooled)


def load_labels(path: str | Path, *, root: str | Path | None = None, verify: bool = True) -> JoinedLabels:
    """Open labels that `JoinedLabels.save` wrote.

    Args:
      path: the folder.
      root: where the audio is now; None is where it was. A bucket that no run of yours has read has to be named.
      verify: hold every byte against its digest (about a second a gigabyte), not only the sizes.
    Raises: JoinError: not a saved join, of a newer version, or damaged.
    Example:
      >>> labels.save("kept")
      PosixPath('kept')
      >>> len(softlabels.load_labels("kept"))
      14
    """
    labels = JoinedLabels.open(Path(path), root=None if root is None else location(root), verify=verify)
    if labels._saved.is_kept:
        raise JoinError(f"'{path}' is a join in a cache, not saved labels; `labels.save(path)` writes them")
    if root is None and isinstance(labels.root, str) and not has_read(labels.root):  # they may be a stranger's
        raise JoinError(
            f"saved join '{path}' says that its audio is in {labels.root!r}, which no run of yours has read: if you "
            "trust it, name it with root="
        )
    return labels


def _reopen(path: Path, fingerprint: str, changed: dict[str, Any]) -> JoinedLabels:
    """Unpickle: what was made of the labels comes with the pickle, the arrays from disk."""
    labels = JoinedLabels(_saved=open_join(path), **changed)
    if labels.fingerprint != fingerprint:
        raise JoinError(
            f"'{path}' was replaced since the pickle was made: expected fingerprint {fingerprint}, got "
            f"{labels.fingerprint}; pickle the labels that are there now"
        )
    return labels
