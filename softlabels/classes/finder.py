"""Finding the names of one class list in another, however people wrote them."""

import difflib
import functools
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Literal, get_args

from softlabels.classes.class_list import ClassList
from softlabels.tables import SHOWN

How = Literal["exact", "scientific name", "common name"]  # tried in this order
HOW: tuple[How, ...] = get_args(How)
_SPECIES = re.compile(r"[A-Z][a-z-]+( [a-z-]+)+")  # Turdus merula, Corvus corone cornix
_PLAIN = re.compile(r"[^\W_]([^\W_]|[ '\u2019.-])*")  # a name and nothing else: no mark, no list, no remark
_BETWEEN = re.compile(r"[,;|/+&\n]|\(|\)|\[|\]")  # what joins several names in one text, or adds a remark


class ClassFinder:
    """Finds class names in a list: exact, then by scientific name, then by an unambiguous common name.

    `Turdus_merula`, `turdus merula`, `Eurasian Blackbird` and `turdus merula_eurasian blackbird` all find `Turdus
    merula_Eurasian Blackbird`. One half of a name counts if the other is empty or that of the same class. Two other
    names are understood as well, and whoever uses them says so: a species with a common name that is nobody's
    (`Turdus merula_Amsel`: translated or renamed), and a common name with a species of the same epithet (`Parus
    caeruleus_Eurasian Blue Tit`: the genus moved). Nothing else is found, and `doubt` says why.

    Args:
      known: names of further classes, such as the teacher's: theirs is no translation of a class of the list.
    """

    def __init__(self, classes: ClassList, known: Iterable[str] = ()) -> None:
        self.classes = classes
        self._halves = [(normalised(before), normalised(after)) for before, after in map(_split, classes)]
        self._by_scientific = unambiguous((half, i) for i, (half, _) in enumerate(self._halves))
        self._by_common = unambiguous((half, i) for i, (_, half) in enumerate(self._halves))
        self._known = frozenset(known)

    @functools.cached_property
    def _names_with(self) -> dict[str, set[str]]:
        """half -> the names that have it, in the list and among the known ones; made when they are first needed."""
        names: dict[str, set[str]] = defaultdict(set)
        for name in (*self.classes, *self._known):
            for half in _split(name):
                names[normalised(half)].add(name)
        names.pop("", None)
        return dict(names)

    def find(self, name: str) -> tuple[int, How] | None:
        """(position, one of HOW) of a name in the list, or None."""
        if name in self.classes:
            return self.classes.index(name), HOW[0]
        one = normalised(name)
        if one in self._by_scientific:
            return self._by_scientific[one], HOW[1]
        if one in self._by_common:
            return self._by_common[one], HOW[2]
        return self._find_halves(*_split(name))

    def _find_halves(self, before: str, after: str) -> tuple[int, How] | None:
        for position_of, half, other, how in (
            (self._by_scientific, before, after, HOW[1]),
            (self._by_common, after, before, HOW[2]),
        ):
            position = position_of.get(normalised(half), -1)
            if position >= 0 and self._agrees(position, other, how):
                return position, how
        return None

    def _agrees(self, position: int, text: str, how: How) -> bool:
        """Whether the other half of a name, one of whose halves is that of a class, may be that of this class."""
        scientific, common = self._halves[position]
        other, of_class = normalised(text), common if how == "scientific name" else scientific
        if other in ("", of_class):
            return True
        of_others = any(normalised(_split(name)[0]) != scientific for name in self._names_with.get(other, ()))
        if of_others or not of_class:
            return not of_others
        understood = how == "scientific name" or epithet(other) == epithet(scientific) != ""
        more = any(run != other and run in self._names_with for run in _runs(other))  # not Eurasian Blackbird
        return bool(understood and not more and is_species(self.classes[position]) and _PLAIN.fullmatch(text))

    def doubt(self, name: str) -> str:
        """Why a name that has something of a class is not taken for it; "" if it is found, or has nothing of any.

        One rule for all who ask: the classes of a student's list in a teacher's, labels in either.
        """
        if self.find(name):
            return ""
        if half := self.half(name):
            return half
        parts = [part for part in map(str.strip, _BETWEEN.split(name)) if part not in ("", name)]
        found = [hit[0] for hit in map(self.find, parts) if hit]
        runs = [] if name in self._known else _runs(normalised(name))
        found += [self._by_scientific[run] for run in runs if " " in run and run in self._by_scientific]
        if found:
            return f"it holds {self.classes[found[0]]!r} and more"
        owners = sorted(self._names_with.get(normalised(name), set()).intersection(self.classes))
        return f"it is a name of {' and of '.join(map(repr, owners[:3]))}" if len(owners) > 1 else ""

    def half(self, name: str) -> str:
        """Of which class a half of a name is that is not found, in words; "" of none."""
        halves = [normalised(half) for half in _split(name)]
        if self.find(name) or name in self._known or not all(halves):
            return ""
        owners = {
            half: filter(is_species, self._names_with.get(half, set()).intersection(self.classes)) for half in halves
        }
        of = [f"{half!r} is of {names[0]!r}" for half, found in owners.items() if (names := sorted(found))]
        return f"{', '.join(of)}, and the other half is not" if of else ""

    def differs(self, name: str, position: int) -> bool:
        """Whether a name that was found has another half than its class: translated, renamed, or its genus moved."""
        if normalised(name) in (*self._halves[position], normalised(self.classes[position])):
            return False
        pairs = zip(map(normalised, _split(name)), self._halves[position], strict=True)
        return any(ours and theirs and ours != theirs for ours, theirs in pairs)


def nearest_names(names: Iterable[str], classes: ClassList) -> dict[str, str]:
    """name -> the class with the most similar name or half of a name; "" where none is similar."""
    by_half = {half: name for name in reversed(classes.names) for half in map(normalised, _split(name)) if half}
    nearest = {}
    for name in names:
        halves = [half for half in (normalised(name), *map(normalised, _split(name))) if half]
        matches = [match for half in halves for match in difflib.get_close_matches(half, by_half, n=1, cutoff=0.75)]
        nearest[name] = by_half[matches[0]] if matches else ""
    return nearest


def with_nearest(names: Iterable[str], classes: ClassList) -> str:
    """The first of some names that are not found, each with the class it is perhaps, for an error."""
    near = nearest_names(sorted(names)[:SHOWN], classes)
    return ", ".join(f"{name!r}{f', perhaps {found!r}' if found else ''}" for name, found in near.items())


def is_species(name: str) -> bool:
    """Whether the first half of a name is that of a species: of no other name a half by itself means anything."""
    return bool(_SPECIES.fullmatch(_split(name)[0]))


def _split(name: str) -> tuple[str, str]:
    before, _, after = name.partition("_")
    return before.strip(), after.strip()


def _runs(text: str) -> Iterator[str]:
    """All runs of words in a text, itself first."""
    words = text.split()
    for length in range(len(words), 0, -1):
        for first in range(len(words) - length + 1):
            yield " ".join(words[first : first + length])


def epithet(scientific: str) -> str:
    """The second word without its gender: caerulea, caeruleus and caeruleum are one; "" if there is none."""
    words = scientific.casefold().split()
    return re.sub("(us|a|um)$", "", words[1]) if len(words) > 1 else ""


def normalised(name: str) -> str:
    """A name without what people write differently: case, underscores, runs of spaces, Unicode forms."""
    return " ".join(unicodedata.normalize("NFC", name).replace("_", " ").casefold().split())


def unambiguous(keys: Iterable[tuple[str, int]]) -> dict[str, int]:
    """key -> position, of the keys (other than "") that only one position has."""
    found: dict[str, set[int]] = {}
    for key, position in keys:
        found.setdefault(key, set()).add(position)
    return {key: min(positions) for key, positions in found.items() if key and len(positions) == 1}
