"""Class lists: ordered names whose order is identity, and finding the names of one list in another."""

import hashlib
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from softlabels.errors import ClassListError


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


class ClassFinder:
    """Finds class names in a list: exact, then by scientific name, then by an unambiguous common name.

    `Turdus merula_Eurasian Blackbird`, `Turdus merula_Amsel`, `Turdus_merula`, `turdus merula` and
    `Eurasian Blackbird` all find `Turdus merula_Eurasian Blackbird`.
    """

    def __init__(self, classes: ClassList) -> None:
        self.classes = classes
        self._by_scientific = unambiguous((folded(name.partition("_")[0]), i) for i, name in enumerate(classes))
        self._by_common = unambiguous((folded(name.partition("_")[2]), i) for i, name in enumerate(classes))

    def find(self, name: str) -> tuple[int, str] | None:
        """(position, one of HOW) of a name in the list, or None."""
        if name in self.classes:
            return self.classes.index(name), HOW[0]
        before, _, after = name.partition("_")
        for key in (folded(before), folded(name)):
            if key in self._by_scientific:
                return self._by_scientific[key], HOW[1]
        for key in (folded(after), folded(name)):
            if key in self._by_common:
                return self._by_common[key], HOW[2]
        return None

    def contradicts(self, name: str, found: str) -> bool:
        """Whether the common half of a name is that of another class than the one it was found as."""
        position = self._by_common.get(folded(name.partition("_")[2]))
        return position is not None and self.classes[position] != found


def folded(name: str) -> str:
    """A name without what people write differently: case, underscores, runs of spaces, Unicode forms."""
    return " ".join(unicodedata.normalize("NFC", name).replace("_", " ").casefold().split())


def unambiguous(keys: Iterable[tuple[str, int]]) -> dict[str, int]:
    """key -> position, of the keys (other than "") that only one position has."""
    found: dict[str, set[int]] = {}
    for key, position in keys:
        found.setdefault(key, set()).add(position)
    return {key: min(positions) for key, positions in found.items() if key and len(positions) == 1}
