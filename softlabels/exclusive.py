"""Independent probabilities as one distribution: what a sigmoid teacher says to a softmax student."""

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np

from softlabels.classes import ClassList

REST = "rest"


@dataclass(frozen=True, slots=True, kw_only=True)
class Exclusive:
    """How rows become distributions; see `JoinedLabels.exclusive`."""

    rest: bool
    min_mass: float

    def __post_init__(self) -> None:
        if not 0 <= self.min_mass < 1:
            raise ValueError(f"min_mass: expected a number from 0 up to, not including, 1, got {self.min_mass}")

    def settings(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    def classes(self, classes: ClassList) -> ClassList:
        if self.rest and REST in classes:
            raise ValueError(f"exclusive: the class list has a class {REST!r} already; join without it, or rest=False")
        return ClassList((*classes, REST)) if self.rest else classes

    def trust(self, class_trust: np.ndarray | None) -> np.ndarray | None:
        """Trust per exclusive class; the rest is trusted as the classes are on average."""
        if class_trust is None or not self.rest:
            return class_trust
        return np.append(class_trust, np.mean(class_trust))

    def convert(self, hard: np.ndarray, soft: np.ndarray, out: np.ndarray) -> None:
        """Write `[hard | soft]` of exclusive classes.

        Args:
          hard: (n, classes) 1, 0 or NaN; soft: (n, classes) independent probabilities; NaN where unknown.
          out: (n, 2 * (classes + rest)) float32. A row whose known probabilities sum to less than `min_mass` is NaN.
            Classes that the teacher lacks stay NaN; the others share the row.
        """
        classes = hard.shape[1]
        new_hard, new_soft = np.split(out, 2, axis=1)  # views, (n, classes + rest) each
        new_hard[:, :classes] = hard
        new_soft[:, :classes], rest = self._shares(soft)
        if self.rest:
            new_hard[:, classes] = _nothing_present(hard)
            new_soft[:, classes] = rest

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
        quiet = (p.sum(axis=1, where=known) < self.min_mass) | (total == 0)
        total = np.where(quiet, np.nan, total)
        return odds / total[:, None], none / total


def _nothing_present(hard: np.ndarray) -> np.ndarray:
    """(n, classes) -> (n,): 1 where all are absent, 0 where one is present, NaN where that is unknown."""
    present = (hard == 1).any(axis=1)
    unknown = np.isnan(hard).any(axis=1) & ~present
    return np.where(unknown, np.nan, ~present)
