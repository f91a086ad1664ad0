"""Marks: what a person who listened says of labels in doubt, and what becomes of the manifest.

The report's page writes them, one row a clip; a spreadsheet may have saved them again, with `;` or tabs.

column   meaning
verdict  right: the label is there; wrong: it is not
class    what is there too (right) or instead (wrong): a class name, or `noise` for nothing; empty = nobody knows
clip_id  of the manifest
label    the one in doubt
labels   the clip's cell when the page was made: a clip that has another by now is left alone

What becomes of the cell:

verdict         A;B, with A in doubt      A         noise
right           A;B                       A         noise
right, class C  A;B;C                     A;C       (refused)
wrong           B;-A                      -A        (empty: not annotated)
wrong, class C  B;C;-A                    C;-A      C
wrong, noise    (refused)                 noise     (refused)
"""

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.drafts.manifest_text import ManifestText
from softlabels.corpus.label_cell import BACKGROUND, BETWEEN, NOISE, LabelCell, check_names, read_label
from softlabels.corpus.manifest import Clip
from softlabels.corpus.name_lists import CellFault
from softlabels.errors import ManifestError
from softlabels.tables import open_table, raise_faults, row_text
from softlabels.texts import shortened

COLUMNS = ("verdict", "class", "clip_id", "label", "labels")
RIGHT, WRONG = "right", "wrong"
CHECKED = "label_checked"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """One verdict, on `label` of a clip whose cell was `cell`. other: the class that is there too or instead, or ""."""

    clip_id: str
    right: bool
    label: str
    cell: LabelCell
    other: str = ""

    def __post_init__(self) -> None:
        """Raises: CellFault: it says nothing that can be done."""
        labels, doubted = self.cell.labels or (), self.label.split(BETWEEN)
        if not (set(doubted) <= set(labels) or (self.label == NOISE and self.cell.labels == ())):
            raise CellFault(f"expected as label one of {self.cell.text()!r}, got {shortened(self.label)!r}")
        if not self.other:
            return
        if self.other == NOISE and (self.right or is_background(self.label) or set(labels) != set(doubted)):
            raise CellFault(f"class {NOISE!r} is instead of the only label of a clip, and with verdict {WRONG} only")
        if self.other != NOISE:
            check_names([self.other])
        if self.other in labels:
            raise CellFault(f"expected as class one that the clip does not have, got {self.other!r}")
        if self.right and is_background(self.label):
            raise CellFault(f"{self.label!r} is not right where {self.other!r} is there too: choose {WRONG}")

    def checked(self, before: frozenset[str]) -> frozenset[str]:
        """What people have heard in the clip, with this mark; before: without it."""
        doubted = frozenset(self.label.split(BETWEEN))
        return (before | doubted if self.right else before - doubted) | frozenset(filter(None, [self.other]))

    def corrected(self) -> LabelCell:
        """What the clip's cell becomes."""
        labels, absent, doubted = self.cell.labels or (), self.cell.absent, self.label.split(BETWEEN)
        if self.right and not self.other:
            return self.cell
        if self.other == NOISE:
            return LabelCell(())
        if not self.right:
            labels = tuple(name for name in labels if name not in doubted)
            absent = absent if is_background(self.label) else (*absent, *doubted)
        if self.other:
            labels = (*labels, self.other)
        unsure, absent = (tuple(n for n in names if n != self.other) for names in (self.cell.unsure, absent))
        return read_label(LabelCell(labels or None, unsure, absent).text())


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """What became of marks.

    changes: (clip_id, cell before, cell after) of the rows that were corrected. confirmed: rows whose label is right as
    it is. already: marks that had been applied before. left_alone: why, for each of the others.
    """

    changes: tuple[tuple[str, str, str], ...]
    confirmed: int
    already: int
    left_alone: tuple[str, ...]


def apply_marks(manifest: str | Path, marks: str | Path, *, write: bool = True) -> Applied:
    """Correct a manifest; every other byte of it stays, and of an error all do. A second time changes nothing.

    What somebody has listened to is noted in the column `label_checked`, so that no report asks for it again.
    Without `write` nothing is written.
    Raises: ManifestError: a faulty manifest, faulty marks with their lines, or no mark of a clip as it is now.
    """
    read, text = read_marks(marks), ManifestText.read(manifest)
    clips = {clip.clip_id: clip for clip in text.clips}
    faults = {line: _no_mark_of(mark, clips.get(mark.clip_id)) for line, mark in read.items()}
    left_alone = [f"line {line}: {fault}" for line, fault in faults.items() if fault]
    if len(left_alone) == len(read):
        raise_faults(
            f"marks '{marks}': none is of a clip of '{manifest}' as it is now",
            left_alone,
            ManifestError,
            do="name the manifest of the report, or make a new report",
        )
    mine = {mark.clip_id: mark for line, mark in read.items() if not faults[line]}
    changed = {i: mark for i, mark in mine.items() if mark.corrected() != _cell_of(clips[i])}
    notes = {i: (checked(clips[i]), mark.checked(checked(clips[i]))) for i, mark in mine.items()}
    noted = {i: BETWEEN.join(sorted(after)) for i, (before, after) in notes.items() if after != before}
    if changed:
        text = text.corrected({i: mark.corrected() for i, mark in changed.items()})
    if noted:
        text = text.noted(CHECKED, noted)
    if write and (changed or noted):
        text.write()
    confirmed = sum(mark.right for i, mark in mine.items() if i in noted.keys() - changed.keys())
    return Applied(
        changes=tuple((i, mark.cell.text(), mark.corrected().text()) for i, mark in changed.items()),
        confirmed=confirmed,
        already=len(mine) - len(changed) - confirmed,
        left_alone=tuple(left_alone),
    )


def checked(clip: Clip) -> frozenset[str]:
    """What somebody who listened to a clip says is there, by the manifest's names; see `apply_marks`."""
    return frozenset(filter(None, map(str.strip, dict(clip.extra).get(CHECKED, "").split(BETWEEN))))


def read_marks(path: str | Path) -> dict[int, Mark]:
    """line -> mark, each clip once. Raises: ManifestError: not such a table, or all its faulty rows, with lines."""
    found: dict[int, Mark] = {}
    lines: dict[str, int] = {}
    with open_table(path, "marks", ManifestError, ours=True, spreadsheet=True) as table:
        if not set(COLUMNS) <= set(table.columns) or table.twice():
            raise ManifestError(
                f"marks '{path}': expected columns {', '.join(COLUMNS)}, as the page of `softlabels report` writes "
                f"them, got {table.header()}"
            )
        for line, row in table:
            try:
                mark = _read_mark(row)
            except CellFault as e:
                table.faults.append(f"line {line}: clip {shortened(row['clip_id'])!r}: {e}")
                continue
            first = lines.setdefault(mark.clip_id, line)
            if first == line:
                found[line] = mark
            elif found[first] != mark:
                table.faults.append(
                    f"line {line}: clip {shortened(mark.clip_id)!r}: another mark than line {first}; keep one"
                )
    raise_faults(f"marks '{path}'", table.faults, ManifestError)
    if not found:
        raise ManifestError(f"marks '{path}': expected one row or more, got only the header")
    return found


def row_of(clip: Clip, label: str) -> str:
    """The end of a row of marks, which the page gives a beginning: clip_id, label and labels, as a CSV has them."""
    return row_text([clip.clip_id, label, _cell_of(clip).text()])


def is_background(label: str) -> bool:
    """Whether a label says that none of the classes is there, as `noise` and some folder names do."""
    return all(name.casefold() in BACKGROUND for name in label.split(BETWEEN))


def _read_mark(row: Mapping[str, str]) -> Mark:
    texts = {name: row[name].strip() for name in COLUMNS}
    verdict = texts["verdict"].casefold()
    if verdict not in (RIGHT, WRONG):
        raise CellFault(f"expected {RIGHT} or {WRONG} as verdict, got {shortened(texts['verdict'])!r}")
    return Mark(
        clip_id=unicodedata.normalize("NFC", row["clip_id"]),
        right=verdict == RIGHT,
        label=texts["label"],
        cell=read_label(texts["labels"]),
        other=texts["class"],
    )


def _no_mark_of(mark: Mark, clip: Clip | None) -> str:
    """Why a mark cannot be applied, "" if it can, or was."""
    if clip is None:
        return f"clip {shortened(mark.clip_id)!r} is not in the manifest"
    now = _cell_of(clip)
    if now in (mark.cell, mark.corrected()):
        return ""
    return (
        f"clip {shortened(mark.clip_id)!r} has the label {now.text()!r} by now, and had {mark.cell.text()!r} in the "
        "report"
    )


def _cell_of(clip: Clip) -> LabelCell:
    return LabelCell(clip.labels, clip.unsure, clip.absent)
