"""A table of the names that species had over the years, and which classes of two lists are one species by it.

What is read, by what the file holds:

file                                       a species is                                its names
eBird's CSV, or any with its columns       a code                                      code, scientific, common name
JSON, code -> sci_name, common_name        a code                                      the same
JSON, mappings with mapped_pairs           an eBird code, or what names are mapped to  scientific names, by source

Tables may be given together: names that share a code are one species. What they leave open is left open:
a name that two species have, as after a split; one of several that a source gives one species (it lumps them); a code
whose scientific and common names both became others (after a split it went to one part); a common name that stayed
where the epithet did not and no table knows the older scientific name. No table is shipped here.
"""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from softlabels.classes.class_list import ClassList
from softlabels.classes.finder import is_species, normalised
from softlabels.classes.list_file import column_roles
from softlabels.errors import ClassListError
from softlabels.path_kinds import what_is_at
from softlabels.tables import open_table, raise_faults, some

_YEAR = re.compile(r"(?<!\d)(?:19|20)\d\d(?!\d)")
_CODES = re.compile(r"ebird\d{4}(_species)?")  # a namespace of species' codes
_BINOMIAL = re.compile(r"[^\W\d_-]+( [^\W\d_]+-?[^\W\d_]+)+")
CODES = "codes"  # how a species is known: by its code, the same in every table, or by what one mapping makes of it


class Name(NamedTuple):
    """A name as a table has it, with the table's year, or what it is called."""

    name: str
    source: str

    def __str__(self) -> str:
        return f"{self.name} ({self.source})"


@dataclass(frozen=True, slots=True)
class Bridge:
    """A teacher's class that is a student's by a table: its position, and the name by which each was found."""

    teacher_class: int
    student_name: Name
    teacher_name: Name

    def __str__(self) -> str:
        return f"{self.student_name} is {self.teacher_name}"


class _Species(NamedTuple):
    kind: str  # CODES, or the mapping
    key: str


class Taxonomy:
    """Which names are one species, by tables that people have.

    Args:
      paths: the files, see the module.
    Raises: ClassListError: one cannot be read, or is no such table.
    """

    def __init__(self, paths: Iterable[str | Path]) -> None:
        self._halves: dict[str, dict[str, dict[_Species, Name]]] = {"scientific": {}, "common": {}, "code": {}}
        for path in paths:
            rows = list(_read_json(path) if Path(path).suffix.lower() == ".json" else _read_csv(path))
            if not rows:
                raise ClassListError(f"taxonomy '{path}': expected names of species, got none; is it another table?")
            self._add(rows)
        self._gone = self._changed()

    def bridges(self, student: ClassList, teacher: ClassList) -> dict[int, Bridge]:
        """student position -> the teacher's class that is the same species, of those where all that the tables say
        agrees and neither class is any other's by them."""
        ours = {c: found for c, name in enumerate(student) if (found := self._species(name))}
        theirs = {c: found for c, name in enumerate(teacher) if (found := self._species(name))}
        of_species: dict[_Species, list[int]] = defaultdict(list)
        for c, found in theirs.items():
            for species in found:
                of_species[species].append(c)
        bridges = {}
        for c, found in ours.items():
            met = {at: species for species in reversed(found) for at in of_species.get(species, ())}
            if len(met) == 1 and self._agree(student[c], teacher[next(iter(met))], found):
                ((at, species),) = met.items()
                bridges[c] = Bridge(at, found[species], theirs[at][species])
        claimed = Counter(bridge.teacher_class for bridge in bridges.values())
        return {c: bridge for c, bridge in bridges.items() if claimed[bridge.teacher_class] == 1}

    def _agree(self, ours: str, theirs: str, species: Iterable[_Species]) -> bool:
        """Whether the scientific names of two classes of a species may be one: by their epithets, or by a table."""
        names = [name.partition("_")[0] for name in (ours, theirs)]
        known = self._halves["scientific"].get(normalised(names[0]), {})
        stems = {_stem(name) for name in names if is_species(name)}
        return len(stems) < 2 or any(each in known for each in species)

    def _add(self, rows: list[tuple[_Species, str, Name]]) -> None:
        """Add names, but for those that their source lumps in one species."""
        given: dict[tuple[_Species, str, str], set[str]] = defaultdict(set)
        for species, half, name in rows:
            given[species, half, name.source].add(normalised(name.name))
        for species, half, name in rows:
            if len(given[species, half, name.source]) == 1:
                self._halves[half].setdefault(normalised(name.name), {}).setdefault(species, name)

    def _changed(self) -> frozenset[_Species]:
        """The codes that mean another species by now."""
        stems: dict[_Species, set[str]] = defaultdict(set)
        commons: dict[_Species, set[str]] = defaultdict(set)
        for half, kept, what in (("scientific", stems, _stem), ("common", commons, str)):
            for name, found in self._halves[half].items():
                for species in found:
                    kept[species].add(what(name))
        return frozenset(
            species
            for species in stems
            if species.kind == CODES and min(len(stems[species]), len(commons[species])) > 1
        )

    def _species(self, name: str) -> dict[_Species, Name]:
        """The species of a class, at most one a kind: the only one that its name or a half of it was ever given to."""
        before, _, after = name.partition("_")
        given = [
            found
            for half, text in (("scientific", before), ("common", after or before), ("code", before))
            if (found := self._halves[half].get(normalised(text)))
        ]
        species: dict[_Species, Name] = {}
        kinds = {each.kind for found in given for each in found}
        for kind in sorted(kinds, key=lambda kind: (kind != CODES, kind)):  # codes have years, so they come first
            of_kind = [[one for one in found.items() if one[0].kind == kind] for found in given]
            names = dict(one for found in reversed(of_kind) for one in found)
            if len(names) == 1 and not self._gone.issuperset(names):  # else it was split, or its halves are of two
                species |= names
        return species


def _read_csv(path: str | Path) -> Iterator[tuple[_Species, str, Name]]:
    with open_table(path, "taxonomy", ClassListError, spreadsheet=True) as table:
        roles = column_roles(table.columns)
        roles.setdefault("common", roles.get("name", []))
        unclear = [half for half in ("code", "scientific", "common") if len(roles.get(half, [])) != 1]
        if unclear:
            raise ClassListError(
                f"taxonomy '{path}': expected one column each of code, scientific and common name, such as eBird's "
                f"SPECIES_CODE, SCI_NAME and PRIMARY_COM_NAME, got {table.header()}"
            )
        columns = [(half, roles[half][0]) for half in ("code", "scientific", "common")]
        source = _source(Path(path).stem)
        for _, row in table:
            yield from _of_code(row[columns[0][1]], {half: row[column] for half, column in columns}, source)
    raise_faults(f"taxonomy '{path}'", table.faults, ClassListError)


def _read_json(path: str | Path) -> Iterator[tuple[_Species, str, Name]]:
    try:
        read = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as e:
        raise ClassListError(f"taxonomy '{path}': expected a JSON file: {what_is_at(path)}: {e}") from e
    try:
        if isinstance(read.get("mappings"), dict):
            for name, mapping in read["mappings"].items():
                yield from _of_mapping(name, mapping)
            return
        source = _source(Path(path).stem)
        for code, names in read.items():
            halves = {"code": code, "scientific": names["sci_name"], "common": names.get("common_name") or ""}
            yield from _of_code(code, halves, source)
    except (AttributeError, KeyError, TypeError) as e:
        got = some(read) if isinstance(read, dict) else type(read).__name__
        raise ClassListError(
            f"taxonomy '{path}': expected code -> sci_name and common_name, or mappings with mapped_pairs, got {got}"
        ) from e


def _of_code(code: str, halves: dict[str, str], source: str) -> Iterator[tuple[_Species, str, Name]]:
    if code.strip():
        species = _Species(CODES, normalised(code))
        yield from ((species, half, Name(name.strip(), source)) for half, name in halves.items() if name.strip())


def _of_mapping(mapping: str, what: dict[str, Any]) -> Iterator[tuple[_Species, str, Name]]:
    """The names of a mapping between two namespaces, where one has scientific names, and the other too, or codes."""
    pairs, spaces = what["mapped_pairs"], (what["source_namespace"], what["target_namespace"])
    codes = [bool(_CODES.fullmatch(space)) for space in spaces]
    binomial = [_are_species(side) for side in (pairs.keys(), pairs.values())]
    if all(binomial):
        for old, new in pairs.items():
            species = _Species(mapping, normalised(new))
            yield species, "scientific", Name(old, spaces[0])
            if normalised(old) != normalised(new):
                yield species, "scientific", Name(new, spaces[1])
    elif codes[0] != codes[1] and any(binomial):
        for pair in pairs.items():
            code, name = pair if codes[0] else pair[::-1]
            yield from _of_code(code, {"code": code, "scientific": name}, spaces[codes[0]])


def _stem(scientific: str) -> str:
    """The epithet without its gender: caffra and caffer are one, agile and agilis."""
    words = normalised(scientific).split()
    return re.sub("(us|er|is|r?a|r?um|e)$", "", words[1]) if len(words) > 1 else ""


def _are_species(names: Iterable[str]) -> bool:
    names = list(names)
    return 2 * sum(bool(_BINOMIAL.fullmatch(name)) for name in names) > len(names)


def _source(text: str) -> str:
    """The year in what a table is called, else that."""
    found = _YEAR.search(text)
    return found[0] if found else text
