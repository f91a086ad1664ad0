"""JoinReport: what a join matched and what it left out; prints as a table, saves as JSON."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from softlabels.classes import ClassList, ClassMatch
from softlabels.joined_rows import JoinedRows
from softlabels.manifest import Clip


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinReport:
    """Counts of a join. A row has a hard label where its clip is annotated, a soft one where the teacher spoke.

    clips: in the manifest; rows: in the join, the sum of the next four.
    windows_quarantined, windows_missing: windows of these clips without a soft label; the first are never rows.
    classes: the student's; matched: how many were found how; unmatched: those the teacher lacks.
    """

    clips: int
    rows: int
    rows_both: int
    rows_hard_only: int
    rows_soft_only: int
    rows_neither: int
    windows_quarantined: int
    windows_missing: int
    missing_examples: tuple[str, ...]
    classes: int
    matched: dict[str, int]
    unmatched: tuple[str, ...]

    @classmethod
    def of(
        cls, clips: list[Clip], rows: JoinedRows, annotated: np.ndarray, classes: ClassList, match: ClassMatch
    ) -> "JoinReport":
        """Count a join; annotated: (clips,) bool."""
        hard, soft = annotated[rows.clip], rows.has_soft
        return cls(
            clips=len(clips),
            rows=len(rows),
            rows_both=int(np.sum(hard & soft)),
            rows_hard_only=int(np.sum(hard & ~soft)),
            rows_soft_only=int(np.sum(~hard & soft)),
            rows_neither=int(np.sum(~hard & ~soft)),
            windows_quarantined=rows.quarantined,
            windows_missing=rows.missing,
            missing_examples=rows.missing_examples,
            classes=len(classes),
            matched=match.how,
            unmatched=match.unmatched,
        )

    def __str__(self) -> str:
        def line(name: str, count: int) -> str:
            return f"{name:<22}{count:>12,}{count / max(1, self.rows):>9.1%}"

        matched = ", ".join(f"{count} by {how} name" for how, count in self.matched.items()).replace(
            "name name", "name"
        )
        lines = [
            f"{'clips':<22}{self.clips:>12,}",
            line("rows", self.rows),
            line("  hard and soft label", self.rows_both),
            line("  hard label only", self.rows_hard_only),
            line("  soft label only", self.rows_soft_only),
            line("  neither", self.rows_neither),
            f"{'windows quarantined':<22}{self.windows_quarantined:>12,}",
            f"{'windows missing':<22}{self.windows_missing:>12,}",
            *(f"  {example}" for example in self.missing_examples),
            f"{'classes':<22}{self.classes:>12,}  {matched}",
            f"{'  unknown to teacher':<22}{len(self.unmatched):>12,}  {', '.join(self.unmatched[:10])}",
        ]
        return "\n".join(line.rstrip() for line in lines)

    def save(self, path: str | Path) -> None:
        """Write the report as JSON."""
        Path(path).write_text(json.dumps(dataclasses.asdict(self), indent=2, ensure_ascii=False) + "\n")
