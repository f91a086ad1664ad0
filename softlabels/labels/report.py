"""JoinReport: what a join matched and what it left out; prints as a table, saves as JSON."""

from dataclasses import dataclass
from typing import Any

from softlabels.calibration.report import Report, class_table


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassReport:
    """One class of the student's list.

    how: how it was found in the teacher's list; "" where it was not. rows: of the join, with this class annotated.
    on_present, on_absent: the teacher's mean probability where it is annotated, and where it is annotated as absent,
    over the rows looked at for `agreement`; None where there are none.
    """

    name: str
    how: str
    rows: int
    on_present: float | None
    on_absent: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinReport(Report):
    """What a join matched. A row has a hard label where it is annotated, a soft one where the teacher labelled it.

    clips: of the manifest's split; rows: in the join, the sum of the next four; splits: split -> its rows.
    windows_quarantined, windows_missing: windows of these clips without a soft label; the first are never rows.
    The examples name up to ten of each.
    matched: how -> number of the student's classes found that way; unmatched: those the teacher lacks; per_class:
    each of them. agreement: share of `agreement_rows` rows with a positive label on which the teacher's top class is
    annotated; None without such rows. canary: whether labels and teacher are aligned, as a sentence.
    shared_audio: clips whose audio is, at the same time, in another split of the manifest too.
    notes: what a person should look at.
    """

    clips: int
    rows: int
    rows_both: int
    rows_hard_only: int
    rows_soft_only: int
    rows_neither: int
    hard_only_examples: tuple[str, ...]
    soft_only_examples: tuple[str, ...]
    splits: dict[str, int]
    windows_quarantined: int
    quarantined_examples: tuple[str, ...]
    windows_missing: int
    missing_examples: tuple[str, ...]
    shared_audio: int
    shared_audio_examples: tuple[str, ...]
    matched: dict[str, int]
    unmatched: tuple[str, ...]
    per_class: tuple[ClassReport, ...]
    agreement: float | None
    agreement_rows: int
    canary: str
    notes: tuple[str, ...]

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "JoinReport":
        """What `to_json` made, back from JSON."""
        lists = {name: tuple(value) for name, value in values.items() if isinstance(value, list)}
        per_class = tuple(ClassReport(**entry) for entry in values["per_class"])
        return cls(**{**values, **lists, "per_class": per_class})

    def __str__(self) -> str:
        matched = ", ".join(f"{count} {how}" for how, count in self.matched.items())
        agreement = "-" if self.agreement is None else f"{self.agreement:.1%}"
        lines = [
            _line("clips", self.clips),
            self._share("rows", self.rows),
            self._share("  hard and soft label", self.rows_both),
            self._share("  hard label only", self.rows_hard_only, self.hard_only_examples),
            self._share("  soft label only", self.rows_soft_only, self.soft_only_examples),
            self._share("  neither", self.rows_neither),
            *(self._share(f"  split {name or '(none)'}", rows) for name, rows in self.splits.items()),
            _line("windows quarantined", self.windows_quarantined, self.quarantined_examples),
            _line("windows missing", self.windows_missing, self.missing_examples),
            _line("in other splits too", self.shared_audio, self.shared_audio_examples),
            f"{_line('classes', len(self.per_class))}  {matched}",
            _line("  unknown to teacher", len(self.unmatched), self.unmatched),
            f"{'teacher agrees':<22}{agreement:>12}  top class annotated, on {self.agreement_rows:,} rows",
            f"{'alignment':<22}{self.canary}",
            *self._class_lines(),
            *(f"note: {note}" for note in self.notes),
        ]
        return "\n".join(line.rstrip() for line in lines)

    def _share(self, name: str, count: int, examples: tuple[str, ...] = ()) -> str:
        return f"{name:<22}{count:>12,}{count / max(1, self.rows):>9.1%}  {_listed(examples)}"

    def _class_lines(self) -> list[str]:
        """The classes with the most annotated rows."""
        lines = []
        for c in sorted((c for c in self.per_class if c.rows), key=lambda c: (-c.rows, c.name)):
            means = ["-" if mean is None else f"{mean:.3f}" for mean in (c.on_present, c.on_absent)]
            lines.append(f"{c.name[:44]:<45}{c.rows:>8,}{means[0]:>9}{means[1]:>9}  {c.how or 'unknown'}")
        head = f"{'class':<45}{'rows':>8}{'present':>9}{'absent':>9}  (teacher's mean probability)"
        return class_table(head, lines)


def _line(name: str, count: int, examples: tuple[str, ...] = ()) -> str:
    return f"{name:<22}{count:>12,}  {_listed(examples)}".rstrip()


def _listed(examples: tuple[str, ...]) -> str:
    return "; ".join(examples[:3]) + ("; ..." if len(examples) > 3 else "")
