"""Class lists: ordered names whose order is identity, and finding the names of one list in another."""

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from softlabels.errors import ClassListError, JoinError


@dataclass(frozen=True, slots=True)
class ClassList:
    """Ordered, unique class names, usually `Scientific name_Common name`.

    Raises: ClassListError: no names, an empty name, a name with a line break, or a name given twice.
    """

    names: tuple[str, ...]
    _index: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        faults = [f"{name!r} is given {n} times" for name, n in Counter(self.names).items() if n > 1]
        faults += [
            f"name {i} is {name!r}" for i, name in enumerate(self.names) if name != " ".join(name.split()) or not name
        ]
        if not self.names or faults:
            raise ClassListError(
                f"class list of {len(self.names)} names: expected unique names without stray white space, "
                f"got: {'; '.join(faults[:10]) or 'nothing'}"
            )
        object.__setattr__(self, "_index", {name: i for i, name in enumerate(self.names)})

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __getitem__(self, index: int) -> str:
        return self.names[index]

    def __contains__(self, name: object) -> bool:
        return name in self._index

    def index(self, name: str) -> int:
        """The position of a name; KeyError if it is not in the list."""
        return self._index[name]

    @property
    def digest(self) -> str:
        """sha256 of the names in order, one a line."""
        return hashlib.sha256(self.to_text().encode()).hexdigest()

    def to_text(self) -> str:
        return "".join(f"{name}\n" for name in self.names)

    @classmethod
    def from_text(cls, text: str) -> "ClassList":
        return cls(tuple(line.strip() for line in text.removeprefix("\ufeff").splitlines() if line.strip()))

    @classmethod
    def from_file(cls, path: str | Path) -> "ClassList":
        """Read a UTF-8 text file with one class name a line."""
        try:
            return cls.from_text(Path(path).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, ClassListError) as e:
            raise ClassListError(f"class list '{path}': expected a UTF-8 text file, one name a line: {e}") from e


def as_class_list(classes: "ClassList | Iterable[str] | str | Path") -> ClassList:
    """A class list from what a caller has at hand: a list object, names, or the path of a text file."""
    if isinstance(classes, ClassList):
        return classes
    if isinstance(classes, str | Path):
        return ClassList.from_file(classes)
    return ClassList(tuple(classes))


HOW = ("exact", "scientific name", "common name")  # tried in this order
MIN_COVERAGE = 0.5  # a student's list of which the teacher has less than half is most likely the wrong list


class ClassFinder:
    """Finds class names in a list: exact, then by scientific name, then by an unambiguous common name.

    `Turdus merula_Eurasian Blackbird`, `Turdus merula_Amsel`, `Turdus_merula`, `turdus merula` and
    `Eurasian Blackbird` all find `Turdus merula_Eurasian Blackbird`.
    """

    def __init__(self, classes: ClassList) -> None:
        self.classes = classes
        scientific = [_words(name.partition("_")[0]) for name in classes]
        common = [_words(name.partition("_")[2]) for name in classes]
        self._by_scientific = _unambiguous(scientific)
        self._by_common = _unambiguous(common)

    def find(self, name: str) -> tuple[int, str] | None:
        """(position, one of HOW) of a name in the list, or None."""
        if name in self.classes:
            return self.classes.index(name), HOW[0]
        before, _, after = name.partition("_")
        for key in (_words(before), _words(name)):
            if key in self._by_scientific:
                return self._by_scientific[key], HOW[1]
        for key in (_words(after), _words(name)):
            if key in self._by_common:
                return self._by_common[key], HOW[2]
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassMatch:
    """Where a teacher's list has each class of a student's.

    columns: (student classes,) int64 positions in the teacher's list, -1 where it lacks the class.
    how: one of HOW -> number of classes found that way; unmatched: the names it lacks.
    """

    columns: np.ndarray
    how: dict[str, int]
    unmatched: tuple[str, ...]


def match_classes(student: ClassList, teacher: ClassList) -> ClassMatch:
    """Where the teacher's list has each class of the student's.

    Raises: JoinError: two student classes find the same teacher class, or too few find one.
    """
    finder = ClassFinder(teacher)
    found = [finder.find(name) for name in student]
    columns = np.array([-1 if hit is None else hit[0] for hit in found], np.int64)
    taken: dict[int, str] = {}
    for name, column in zip(student, columns.tolist(), strict=True):
        if column in taken:
            raise JoinError(
                f"classes {taken[column]!r} and {name!r} are both {teacher[column]!r} for the teacher; keep one"
            )
        if column >= 0:
            taken[column] = name
    unmatched = tuple(name for name, column in zip(student, columns, strict=True) if column < 0)
    if len(unmatched) > (1 - MIN_COVERAGE) * len(student):
        raise JoinError(
            f"the teacher has only {len(student) - len(unmatched)} of the {len(student)} classes, expected at least "
            f"{MIN_COVERAGE:.0%}; it lacks {', '.join(map(repr, unmatched[:10]))}; is this the right class list?"
        )
    how: dict[str, int] = {}
    for hit in found:
        if hit is not None:
            how[hit[1]] = how.get(hit[1], 0) + 1
    return ClassMatch(columns=columns, how=how, unmatched=unmatched)


def _words(name: str) -> str:
    return " ".join(re.sub(r"[_\s]+", " ", name).casefold().split())


def _unambiguous(keys: list[str]) -> dict[str, int]:
    counts = Counter(keys)
    return {key: i for i, key in enumerate(keys) if key and counts[key] == 1}
