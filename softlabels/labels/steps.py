"""What is done to labels between the memory-mapped array and whoever reads them; the array itself never changes.

A join has a tuple of steps, applied in order to every block of rows that is read. Each is a small frozen value that
goes into fingerprints, pickles and join.json as its settings.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np

from softlabels.calibration.maps import Calibrated
from softlabels.calibration.published.step import PublishedMap
from softlabels.classes.class_list import REST, Activation, ClassList


class Step(Protocol):
    """One change of the rows of a join."""

    @property
    def activation(self) -> Activation:
        """Of the labels that leave the step."""

    def settings(self) -> dict[str, Any]:
        """JSON values from which `step_of` makes the step again."""

    def classes(self, classes: ClassList) -> ClassList:
        """The class list after the step. Raises: ValueError: the step does not fit these classes."""

    def trust(self, class_trust: np.ndarray | None) -> np.ndarray | None:
        """(classes,) trust before -> trust of the classes after the step."""

    def apply(self, hard: np.ndarray, soft: np.ndarray, weak: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(n, classes) float32 each, contiguous, the step's to overwrite -> both halves after the step.

        weak: (n,) bool, windows of clips of several that were not annotated in time.
        """


def step_of(settings: dict[str, Any]) -> Step:
    """The step that has these settings."""
    values = dict(settings)
    return _KINDS[values.pop("step")](**values)


@dataclass(frozen=True, slots=True, kw_only=True)
class Exclusive:
    """The read step that makes rows distributions; see `JoinedLabels.exclusive`."""

    activation: ClassVar[Activation] = "softmax"
    rest: bool
    min_mass: float

    def __post_init__(self) -> None:
        if not 0 <= self.min_mass < 1:
            raise ValueError(f"min_mass: expected a number from 0 up to, not including, 1, got {self.min_mass}")

    def settings(self) -> dict[str, Any]:
        return {"step": "exclusive", "rest": self.rest, "min_mass": self.min_mass}

    def classes(self, classes: ClassList) -> ClassList:
        if self.rest and REST in classes:
            raise ValueError(f"exclusive: the class list has a class {REST!r} already; join without it, or rest=False")
        return ClassList((*classes, REST)) if self.rest else classes

    def trust(self, class_trust: np.ndarray | None) -> np.ndarray | None:
        """Trust per exclusive class; the rest is trusted as the classes are on average."""
        if class_trust is None or not self.rest:
            return class_trust
        return np.append(class_trust, np.mean(class_trust))

    def apply(self, hard: np.ndarray, soft: np.ndarray, weak: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Both halves, (n, classes) each, for exclusive classes: (n, classes + rest) float32.

        A row whose known probabilities sum to less than `min_mass` is NaN. Classes that the teacher lacks stay NaN;
        the others share the row.
        """
        shares, rest = self._shares(soft)
        if not self.rest:
            return hard, shares.astype(np.float32)
        wider = np.empty((2, len(hard), hard.shape[1] + 1), np.float32)
        present = (hard == 1).any(axis=1)
        wider[0, :, :-1], wider[0, :, -1] = hard, np.where(np.isnan(hard).any(axis=1) & ~present, np.nan, ~present)
        wider[1, :, :-1], wider[1, :, -1] = shares, rest
        return wider[0], wider[1]

    def _shares(self, soft: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(n, classes) and (n,): odds divided by their sum, in float64; a certain class has it all."""
        p = soft.astype(np.float64)
        known = p == p
        # Divided by the largest odds, written with (1 - p) alone, nothing overflows where p is 1.
        top = np.max(p, axis=1, where=known, initial=0.0)[:, None]  # (n, 1)
        certain = (top == 1.0) & known
        odds = np.where(certain, p == 1.0, p * (1 - top) / np.where(p == 1.0, 1.0, 1 - p))  # times (1 - top)
        none = (1 - top[:, 0]) if self.rest else np.zeros(len(p))
        total = odds.sum(axis=1, where=known) + none
        unknown = ~known.any(axis=1)  # nothing was said about the row: that is not silence
        quiet = (p.sum(axis=1, where=known) < self.min_mass) | (total == 0) | unknown
        total = np.where(quiet, np.nan, total)
        return odds / total[:, None], none / total


_KINDS: dict[str, type[Step]] = {  # by the name in their settings
    "exclusive": Exclusive,
    "calibrated": Calibrated,
    "published": PublishedMap,
}
