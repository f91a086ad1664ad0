"""The read step of a published calibration: slope * x + shift are a class's log-odds."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

import numpy as np

from softlabels.calibration.maps import as_probabilities, terms
from softlabels.classes.class_list import Activation, ClassList
from softlabels.evidence.agreement import row_blocks

Of = Literal["log-odds", "probability"]  # what x is
_BLOCK = 1 << 15  # values mapped at once: they stay in cache


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PublishedMap:
    """Maps some classes of the soft half, and leaves the others as they are; see `JoinedLabels.calibrate`.

    of: what the slopes multiply. columns: (mapped,) positions of the classes; slopes, shifts: alike, float64.

    Raises: ValueError: not as many slopes as classes, a slope below 0, which would turn the order around, or no number.
    """

    activation: ClassVar[Activation] = "sigmoid"
    of: Of
    columns: np.ndarray
    slopes: np.ndarray
    shifts: np.ndarray

    def __post_init__(self) -> None:
        object.__setattr__(self, "columns", np.asarray(self.columns, np.int64))  # lists come from JSON
        for name in ("slopes", "shifts"):
            object.__setattr__(self, name, np.asarray(getattr(self, name), np.float64))
        good = np.isfinite(self.slopes) & np.isfinite(self.shifts) & (self.slopes >= 0)
        if (
            self.of not in get_args(Of)
            or not len(self.columns) == len(self.slopes) == len(self.shifts)
            or not good.all()
        ):
            raise ValueError("published calibration: expected a slope of 0 or more and a shift for each class")

    def settings(self) -> dict[str, Any]:
        arrays = {name: getattr(self, name).tolist() for name in ("columns", "slopes", "shifts")}
        return {"step": "published", "of": self.of, **arrays}

    def classes(self, classes: ClassList) -> ClassList:
        if len(self.columns) and not 0 <= self.columns.min() <= self.columns.max() < len(classes):
            raise ValueError(f"published calibration: expected positions of {len(classes)} classes")
        return classes

    def trust(self, class_trust: np.ndarray | None) -> np.ndarray | None:
        return class_trust

    def apply(self, hard: np.ndarray, soft: np.ndarray, weak: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Map `soft` in place, in float32. NaN stays NaN; all windows are mapped, whoever annotated them."""
        slopes, shifts = self.slopes.astype(np.float32), self.shifts.astype(np.float32)
        for block in row_blocks(len(soft), soft.shape[1], _BLOCK):
            p = soft[block][:, self.columns]  # (rows, mapped)
            x = p if self.of == "probability" else terms(p, "temperature", "sigmoid")[0]
            soft[block, self.columns] = as_probabilities(x * slopes + shifts, p, "sigmoid")
        return hard, soft
