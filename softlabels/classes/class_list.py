"""Class lists: ordered names whose order is identity, and whether they exclude each other."""

import logging
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from softlabels.classes.list_file import ListFile, read_list
from softlabels.digests import sha256_of_bytes
from softlabels.errors import ClassListError
from softlabels.texts import fault_of_name, shortened

Activation = Literal["sigmoid", "softmax"]  # each class by itself; classes that exclude each other
logger = logging.getLogger(__name__)
REST = "rest"  # a class of a distribution that stands for none of the others


@dataclass(frozen=True, slots=True)
class ClassList:
    """Ordered, unique class names, usually `Scientific name_Common name`.

    Raises: ClassListError: no names, an empty name, one with a line break or control character, one of more than 1,000
      characters, or a name given twice.
    Example:
      >>> softlabels.ClassList(("Aus aus_Alpha", "Bus bus_Beta")).index("Bus bus_Beta")
      1
    """

    names: tuple[str, ...]
    _index: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        faults = [f"{shortened(name)!r} is given {n} times" for name, n in Counter(self.names).items() if n > 1]
        faults += [
            f"name {i} is {shortened(name)!r}"
            for i, name in enumerate(self.names)
            if name != " ".join(name.split()) or fault_of_name(name)
        ]
        if not self.names or faults:
            raise ClassListError(
                f"class list of {len(self.names)} names: expected unique names without stray white space, "
                f"control characters and endless text, got: {'; '.join(faults[:10]) or 'nothing'}"
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
        return sha256_of_bytes(self.to_text().encode())

    def to_text(self) -> str:
        return "".join(f"{name}\n" for name in self.names)

    @classmethod
    def from_text(cls, text: str) -> "ClassList":
        return cls(tuple(line.strip() for line in text.removeprefix("\ufeff").splitlines() if line.strip()))

    @classmethod
    def from_file(cls, path: str | Path, column: str = "") -> "ClassList":
        """Read a UTF-8 text file with one class name a line, or a table with a header, see `list_file`.

        Args:
          column: of a table whose header does not say which it is.
        """
        read = read_list(path, column=column)
        if read.remark:
            logger.warning("class list '%s': %s", path, read.remark)
        return cls.of_file(path, read)

    @classmethod
    def of_file(cls, path: str | Path, read: ListFile) -> "ClassList":
        """The classes of a file that was read. Raises: ClassListError: they are no class list."""
        try:
            return cls(read.names)
        except ClassListError as e:
            raise ClassListError(f"class list '{path}': expected a UTF-8 text file, one name a line: {e}") from e


def as_class_list(classes: "ClassList | Iterable[str] | str | Path") -> ClassList:
    """A class list from what a caller has at hand: a list object, names, or the path of a text file."""
    if isinstance(classes, ClassList):
        return classes
    if isinstance(classes, str | Path):
        return ClassList.from_file(classes)
    return ClassList(tuple(classes))
