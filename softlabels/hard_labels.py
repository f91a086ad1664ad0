"""HardLabels: what people annotated, as multi-hot rows made when they are asked for."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from softlabels.classes import ClassFinder, ClassList
from softlabels.errors import JoinError
from softlabels.manifest import Clip


@dataclass(frozen=True, slots=True)
class HardLabels:
    """The annotated classes of every clip, compressed: clip i has index[offsets[i] : offsets[i + 1]].

    offsets: (clips + 1,) int64; index: (labels,) int32; annotated: (clips,) bool; classes: their number.
    """

    offsets: np.ndarray
    index: np.ndarray
    annotated: np.ndarray
    classes: int

    @classmethod
    def of(cls, clips: list[Clip], classes: ClassList, manifest: str | Path) -> "HardLabels":
        """Raises: JoinError: a label that is not in the class list."""
        finder = ClassFinder(classes)
        position = {name: finder.find(name) for name in {name for clip in clips for name in clip.labels or ()}}
        unknown = sorted(name for name, found in position.items() if found is None)
        if unknown:
            raise JoinError(
                f"manifest '{manifest}': {len(unknown)} labels are not in the class list of {len(classes)}: "
                f"{', '.join(map(repr, unknown[:10]))}; correct them, add them to `classes`, or leave the clips out"
            )
        labels = [sorted({position[name][0] for name in clip.labels or ()}) for clip in clips]
        return cls(
            np.cumsum([0, *map(len, labels)]),
            np.array([i for each in labels for i in each], np.int32),
            np.array([clip.labels is not None for clip in clips], bool),
            len(classes),
        )

    def rows(self, clip: np.ndarray) -> np.ndarray:
        """(rows,) positions of clips -> (rows, classes) float32."""
        hard = np.zeros((len(clip), self.classes), np.float32)
        first, counts = self.offsets[clip], self.offsets[clip + 1] - self.offsets[clip]
        row = np.repeat(np.arange(len(clip)), counts)
        within = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
        hard[row, self.index[np.repeat(first, counts) + within]] = 1.0
        hard[~self.annotated[clip]] = np.nan
        return hard
