"""Finding the names of one class list in another, however people wrote them."""

import unicodedata
from collections.abc import Iterable
from typing import Literal, get_args

from softlabels.classes.class_list import ClassList

How = Literal["exact", "scientific name", "common name"]  # tried in this order
HOW: tuple[How, ...] = get_args(How)


class ClassFinder:
    """Finds class names in a list: exact, then by scientific name, then by an unambiguous common name.

    `Turdus merula_Eurasian Blackbird`, `Turdus merula_Amsel`, `Turdus_merula`, `turdus merula` and
    `Eurasian Blackbird` all find `Turdus merula_Eurasian Blackbird`.
    """

    def __init__(self, classes: ClassList) -> None:
        self.classes = classes
        self._by_scientific = unambiguous((normalised(name.partition("_")[0]), i) for i, name in enumerate(classes))
        self._by_common = unambiguous((normalised(name.partition("_")[2]), i) for i, name in enumerate(classes))

    def find(self, name: str) -> tuple[int, How] | None:
        """(position, one of HOW) of a name in the list, or None."""
        if name in self.classes:
            return self.classes.index(name), HOW[0]
        before, _, after = name.partition("_")
        for position_of, half, how in ((self._by_scientific, before, HOW[1]), (self._by_common, after, HOW[2])):
            for key in (normalised(half), normalised(name)):
                if key in position_of:
                    return position_of[key], how
        return None

    def contradicts(self, name: str, found: str) -> bool:
        """Whether the common half of a name is that of another class than the one it was found as."""
        position = self._by_common.get(normalised(name.partition("_")[2]))
        return position is not None and self.classes[position] != found


def normalised(name: str) -> str:
    """A name without what people write differently: case, underscores, runs of spaces, Unicode forms."""
    return " ".join(unicodedata.normalize("NFC", name).replace("_", " ").casefold().split())


def unambiguous(keys: Iterable[tuple[str, int]]) -> dict[str, int]:
    """key -> position, of the keys (other than "") that only one position has."""
    found: dict[str, set[int]] = {}
    for key, position in keys:
        found.setdefault(key, set()).add(position)
    return {key: min(positions) for key, positions in found.items() if key and len(positions) == 1}
