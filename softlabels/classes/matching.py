"""match_classes(): what each class of a student's list is made of in the teacher's list, and how that was found.

A mapping file says it by hand: UTF-8 CSV, one row a pair; `softlabels classes LIST` drafts one.

column            meaning
student_class     a name of the student's list, as it stands there
teacher_class     a name of the teacher's list, as it stands there; empty = the teacher lacks this class
any other         for people, ignored; drafts carry `how` and `look`
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from softlabels.classes.class_list import Activation, ClassList
from softlabels.classes.finder import ClassFinder
from softlabels.errors import ClassListError, JoinError
from softlabels.ragged import offsets_of, owners
from softlabels.tables import open_table, raise_faults, some

How = Literal["exact", "scientific name", "common name", "mapping", ""]
COLUMNS = ("student_class", "teacher_class")
JOIN_AGAIN = "correct and join again"
MIN_COVERAGE = 0.5  # a student's list of which the teacher has less than half is most likely the wrong list
_RENAMED = "by scientific name only: the other half of the name differs (renamed or translated)"
_MOVED = "by common name only: the scientific name differs (a genus that moved)"
ROUNDING = 0.01  # stored probabilities are rounded: a softmax row may sum to a little more than 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassMatch:
    """What each student class is made of.

    teacher_classes: (pairs,) int64 positions in the teacher's list, grouped by student class.
    offsets: (classes + 1,) int64: student class c is made of teacher_classes[offsets[c] : offsets[c + 1]]; nothing
      where the teacher lacks it.
    teacher_count: the length of the teacher's list.
    how: one per student class, how it was found; "" where the teacher lacks it.
    unmatched: the names that the teacher lacks; notes: what a person should know of the two lists, in sentences.
    """

    teacher_classes: np.ndarray
    offsets: np.ndarray
    teacher_count: int
    how: tuple[How, ...]
    unmatched: tuple[str, ...]
    notes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.how)

    @property
    def covered(self) -> np.ndarray:
        """(classes,) bool: the student classes that the teacher has."""
        return np.diff(self.offsets) > 0

    def classes_made_of(self) -> dict[int, int]:
        """teacher class -> the student class that the mapping file makes of it."""
        owner = owners(np.diff(self.offsets))
        pairs = zip(self.teacher_classes.tolist(), owner.tolist(), strict=True)
        return {theirs: ours for theirs, ours in pairs if self.how[ours] == "mapping"}

    def pool(self, probabilities: np.ndarray, activation: Activation) -> np.ndarray:
        """The teacher's probabilities in the student's classes.

        A class made of several is their sum under softmax, where they exclude each other, and their maximum
        under sigmoid.

        Args:
          probabilities: (rows, teacher classes).
        Returns: (rows, classes) float32; NaN for a class that the teacher lacks.
        Raises: ValueError: an unknown activation, or another number of classes than the teacher's; JoinError:
          probabilities to be summed that come to more than 1.
        """
        if activation not in ("sigmoid", "softmax"):
            raise ValueError(f"activation: expected 'sigmoid' or 'softmax', got {activation!r}")
        if probabilities.ndim != 2 or probabilities.shape[1] != self.teacher_count:
            raise ValueError(
                f"probabilities: expected shape (rows, {self.teacher_count}), the teacher's classes, "
                f"got {probabilities.shape}"
            )
        lacking = ~self.covered
        if len(self.teacher_classes) == len(self) - lacking.sum():  # the usual case, one gather
            columns = np.zeros(len(self), np.int64)
            columns[~lacking] = self.teacher_classes
            pooled = np.take(probabilities, columns, axis=1).astype(np.float32, copy=False)
        else:
            pooled = np.empty((len(probabilities), len(self)), np.float32)
            parts = np.take(probabilities, self.teacher_classes, axis=1)  # (rows, pairs)
            pooled[:, ~lacking] = _pool_parts(parts, self.offsets[:-1][~lacking], activation)
        pooled[:, lacking] = np.nan
        return pooled


def _pool_parts(parts: np.ndarray, starts: np.ndarray, activation: Activation) -> np.ndarray:
    """(rows, pairs), the pairs of each class side by side from its start on -> (rows, classes with a pair)."""
    if activation == "sigmoid":
        return np.maximum.reduceat(parts, starts, axis=1)
    sums = np.add.reduceat(parts, starts, axis=1, dtype=np.float64)
    if (sums > 1 + ROUNDING).any():
        raise JoinError(
            f"teacher classes that the mapping joins have probabilities that sum to {np.nanmax(sums):.3g}, expected at "
            "most 1 of a softmax teacher; is the store's activation right?"
        )
    return np.minimum(sums, 1)


@dataclass(frozen=True, slots=True)
class _Link:
    """Student class `student` is made of teacher class `teacher` (None: of nothing), as `where` says."""

    student: int
    teacher: int | None
    how: How
    where: str


def match_classes(
    student: ClassList,
    teacher: ClassList,
    *,
    mapping: str | Path | None = None,
    min_coverage: float = MIN_COVERAGE,
) -> ClassMatch:
    """Find each class of the student's list in the teacher's.

    A class that the mapping file names is what the file says: it is the user's explicit word. All others are found
    by exact name, else by scientific name, else by a common name that only one teacher class has, see `ClassFinder`.

    Args:
      mapping: the mapping file, see the module.
      min_coverage: the share of the student's classes that the teacher must have, in [0, 1]. Classes that the
        mapping file leaves empty count as lacking.
    Raises: ValueError: min_coverage outside [0, 1]; ClassListError: a faulty mapping file, a name that is a teacher's
      class by one half only, or a teacher class found for two, all faults together; JoinError: too few are found.
    """
    if not 0 <= min_coverage <= 1:
        raise ValueError(f"min_coverage: expected a share from 0 to 1, got {min_coverage!r}")
    links, faults = ([], []) if mapping is None else _read_links(mapping, student, teacher)
    finder, mapped = ClassFinder(teacher), {link.student for link in links}
    for c, name in enumerate(student):
        hit = None if c in mapped else finder.find(name)
        if hit:
            links.append(_Link(c, *hit, f"found by {'exact name' if hit[1] == 'exact' else hit[1]}"))
        elif c not in mapped and (half := finder.doubt(name)):
            faults.append(f"class {c}, {name!r}: {half}; `softlabels classes LIST` drafts a mapping file")
    links.sort(key=lambda link: link.student)
    faults += _shared_faults(links, student, teacher)
    source = "class lists" if mapping is None else f"class mapping '{mapping}'"
    raise_faults(source, faults, ClassListError, do=JOIN_AGAIN)
    pairs = [link for link in links if link.teacher is not None]
    how: dict[int, How] = {link.student: link.how for link in pairs}
    match = ClassMatch(
        teacher_classes=np.array([link.teacher for link in pairs], np.int64),
        offsets=offsets_of(np.bincount([link.student for link in pairs], minlength=len(student))),
        teacher_count=len(teacher),
        how=tuple(how.get(c, "") for c in range(len(student))),
        unmatched=tuple(name for c, name in enumerate(student) if c not in how),
        notes=tuple(_notes(links, student, finder)),
    )
    if len(how) < min_coverage * len(student):
        notes = "".join(f"; {note}" for note in match.notes)
        raise JoinError(
            f"the teacher has only {len(how)} of the {len(student)} classes, expected at least {min_coverage:.0%} "
            f"(min_coverage); it lacks {some(match.unmatched)}; is this the right class list? If "
            f"its names are only written otherwise, `softlabels classes LIST` drafts a mapping file{notes}"
        )
    return match


def _read_links(path: str | Path, student: ClassList, teacher: ClassList) -> tuple[list[_Link], list[str]]:
    """What a mapping file says, and what is wrong with it. Raises: ClassListError: not such a file."""
    with open_table(path, "class mapping", ClassListError, ours=True) as table:
        if any(table.columns.count(name) != 1 for name in COLUMNS):
            raise ClassListError(
                f"class mapping '{path}': expected the columns {', '.join(COLUMNS)} in line 1, each once, separated by "
                f"commas, got {table.header()}; `softlabels classes LIST` drafts one"
            )
        pairs = [(line, row[COLUMNS[0]].strip(), row[COLUMNS[1]].strip()) for line, row in table]
    raise_faults(f"class mapping '{path}'", table.faults, ClassListError, do=JOIN_AGAIN)
    links: list[_Link] = []
    faults: list[str] = []
    seen: dict[tuple[str, str], int] = {}  # pair -> line
    for line, ours, theirs in pairs:
        where = f"line {line}"
        before = [at for pair, at in seen.items() if pair[0] == ours and "" in (pair[1], theirs)]
        if (ours, theirs) in seen:
            faults.append(f"{where}: same pair as line {seen[ours, theirs]}: {ours!r}, {theirs!r}")
            continue
        if before:
            faults.append(f"{where}: {ours!r} is made of a teacher class and of none, see line {before[0]}")
        seen[ours, theirs] = line
        if ours not in student:
            faults.append(f"{where}: student_class {ours!r} is not in the student's list of {len(student)}")
        if theirs and theirs not in teacher:
            faults.append(f"{where}: teacher_class {theirs!r} is not in the teacher's list of {len(teacher)}")
        if ours in student and (not theirs or theirs in teacher):
            links.append(_Link(student.index(ours), teacher.index(theirs) if theirs else None, "mapping", where))
    return links, faults


def _shared_faults(links: list[_Link], student: ClassList, teacher: ClassList) -> Iterator[str]:
    """Teacher classes that two student classes claim: one of them would be trained on the other's sound."""
    claimed: dict[int, _Link] = {}
    for link in links:
        first = link if link.teacher is None else claimed.setdefault(link.teacher, link)
        if link.teacher is not None and first.student != link.student:
            yield (
                f"{student[first.student]!r} ({first.where}) and {student[link.student]!r} ({link.where}) are both "
                f"{teacher[link.teacher]!r} for the teacher; keep one, or leave the teacher_class of one empty in a "
                "mapping file"
            )


def _notes(links: list[_Link], student: ClassList, finder: ClassFinder) -> Iterator[str]:
    """What is odd about the two lists, each with an example."""
    pairs = [(link.how, link.teacher, student[link.student]) for link in links if link.teacher is not None]
    positions = [position for how, position, _ in pairs if how != "mapping"]
    if len(positions) == len(finder.classes) and positions != sorted(positions):  # a subset has an order of its own
        yield "the list has the teacher's classes in another order; they meet by name, never by position"
    odd: dict[str, list[str]] = {_RENAMED: [], _MOVED: []}
    for how, position, name in pairs:
        if how != "mapping" and finder.differs(name, position):
            odd[_MOVED if how == "common name" else _RENAMED].append(f"{name!r} for {finder.classes[position]!r}")
    for what, examples in odd.items():
        if examples:
            found = "1 class was found" if len(examples) == 1 else f"{len(examples)} classes were found"
            yield f"{found} {what}, such as {examples[0]}"
    mapped = Counter(link.student for link in links if link.how == "mapping" and link.teacher is not None)
    several = sum(count > 1 for count in mapped.values())
    left = sum(link.teacher is None for link in links)
    if several:
        yield f"classes that the mapping file makes of several of the teacher's: {several} of {len(mapped)}"
    if left:
        yield f"classes that the mapping file says the teacher lacks: {left}"
    found_at_all = {link.student for link in links}
    underscored = [n for c, n in enumerate(student) if c not in found_at_all and n.count("_") > 1 and " " not in n]
    if underscored:
        yield f"not found and written with underscores for spaces: {len(underscored)}, such as {underscored[0]!r}"
