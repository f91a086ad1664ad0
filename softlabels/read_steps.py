"""What is done to labels between the memory-mapped array and whoever reads them; the array itself never changes.

A join has a tuple of steps, applied in order to every block of rows that is read. Each is a small frozen value that
goes into fingerprints, pickles and join.json as its settings.
"""

from typing import Any, Protocol

import numpy as np

from softlabels.calibration_map import Calibrated
from softlabels.classes import ClassList
from softlabels.exclusive import Exclusive
from softlabels.spec import Activation


class Step(Protocol):
    """One change of the rows of a join."""

    activation: Activation  # of the labels that leave the step

    def settings(self) -> dict[str, Any]:
        """JSON values from which `step_of` makes the step again."""
        ...

    def classes(self, classes: ClassList) -> ClassList:
        """The class list behind the step. Raises: ValueError: the step does not fit these classes."""
        ...

    def trust(self, class_trust: np.ndarray | None) -> np.ndarray | None:
        """(classes,) trust before -> trust of the classes behind the step."""
        ...

    def apply(self, hard: np.ndarray, soft: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(n, classes) float32 each, contiguous, the step's to overwrite -> both halves behind the step."""
        ...


def step_of(settings: dict[str, Any]) -> Step:
    """The step that has these settings."""
    kind = {"exclusive": Exclusive, "calibrated": Calibrated}[settings["step"]]
    return kind(**{name: value for name, value in settings.items() if name != "step"})
