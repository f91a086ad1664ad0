"""Reading a class list's file: one name a line, or a table with a header, as models are published with.

What a table's columns are called    is read as
sci_name, scientific_name, ...       `Scientific name_Common name` with the next, else by itself
com_name, common_name, ...           see above, else by itself
name, label, class, species, ...     the class, where there is neither of both
species_code, ebird_code, code       the class, where there is nothing else

A list of one name a line is never taken for a table unless its first line has one of these names beside another.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from softlabels.errors import ClassListError
from softlabels.path_kinds import what_is_at
from softlabels.tables import Table, open_table, raise_faults

ROLES = {
    "scientific": ("sciname", "scientificname", "latinname", "scientific", "latin", "binomial"),
    "common": ("comname", "commonname", "primarycomname", "englishname", "vernacularname", "common", "english"),
    "name": ("name", "label", "class", "species", "classname", "displayname", "speciesname"),
    "code": ("speciescode", "ebirdcode", "ebird", "code"),
}
HALVES = ("scientific", "common")
_HEADINGS = ("sciname", "scientificname", "latinname", "comname", "commonname", "speciescode", "ebirdcode")
_YEAR = re.compile(r"(?:ebird|clements|inat|ioc|avilist|taxonomy)\D{0,12}((?:19|20)\d\d)(?!\d)", re.IGNORECASE)
_YEARS = ("taxonomyyear", "taxonomyversion", "ebirdyear", "ebirdversion")
_DIVIDERS = ",;\t"


@dataclass(frozen=True, slots=True)
class ListFile:
    """The names in the file's order; what people have to be told of how they were read, "" is nothing; and the year of
    the taxonomy that they are from, where a heading or a column states one, else 0."""

    names: tuple[str, ...]
    remark: str = ""
    taxonomy_year: int = 0


def read_list(path: str | Path, *, column: str = "", needs: Sequence[str] = (), heading: bool = False) -> ListFile:
    """The names of a class list's file, in its order; blanks at the ends of names are taken off.

    Args:
      column: of a table, or the heading of a list; "" is found by its name, see the module.
      needs: columns that a table must have.
      heading: the first line is one if it is a single lower-case word.
    Raises: ClassListError: it cannot be read; a table that no column or several fit, lacks a name, or numbers its rows
      in another order.
    """
    try:
        text = Path(path).read_text(encoding="utf-8").removeprefix("\ufeff")
    except (OSError, UnicodeDecodeError) as e:
        raise ClassListError(
            f"class list '{path}': expected a UTF-8 text file, one name a line: got {what_is_at(path)}"
        ) from e
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        raise ClassListError(f"class list '{path}': expected names, the file is empty")
    if _is_table(lines, Path(path).suffix, column or bool(needs)):
        with open_table(path, "class list", ClassListError, spreadsheet=True) as table:
            return _of_table(str(path), table, column, needs)
    first = lines[0].strip()
    if column and column != first:
        raise ClassListError(f"class list '{path}': expected a column {column!r}, got one name a line: {first[:100]!r}")
    if column or letters(first) in _HEADINGS or (heading and first.islower() and " " not in first):
        return _trimmed(lines[1:], _year_in([first]))
    return _trimmed(lines)


def letters(name: str) -> str:
    """A column's name without what people write differently: `SCI_NAME` and `sci name` are one."""
    return "".join(filter(str.isalnum, name.casefold()))


def column_roles(columns: Iterable[str]) -> dict[str, list[str]]:
    """scientific, common, name, code -> the columns that are called so; those without any are left out."""
    columns = list(columns)
    found = {role: [name for name in columns if letters(name) in known] for role, known in ROLES.items()}
    return {role: names for role, names in found.items() if names}


def joined(path: str, halves: Sequence[tuple[str, ...]], year: int = 0) -> ListFile:
    """The names of halves, as `Scientific name_Common name`. Raises: ClassListError: one is empty."""
    lacking = [i for i, parts in enumerate(halves) if not all(map(str.strip, parts))]
    if lacking:
        what = "a scientific and a common name" if len(halves[lacking[0]]) > 1 else "a name"
        raise ClassListError(
            f"class list '{path}': expected {what} in every row, row {lacking[0]} has "
            f"{halves[lacking[0]]!r} ({len(lacking)} in all)"
        )
    blanks = sum(half != half.strip() for parts in halves for half in parts)
    return ListFile(tuple("_".join(map(str.strip, parts)) for parts in halves), _blanks(blanks), year)


def _is_table(lines: list[str], suffix: str, wanted: object) -> bool:
    divider = max(_DIVIDERS, key=lines[0].count)
    cells = lines[0].count(divider)
    if not cells:
        return False
    if wanted or column_roles(cell.strip(' "') for cell in lines[0].split(divider)):
        return True
    return suffix.lower() in (".csv", ".tsv") and all(line.count(divider) == cells for line in lines)


def _of_table(path: str, table: Table, column: str, needs: Sequence[str]) -> ListFile:
    rows = [row for _, row in table]
    raise_faults(f"class list '{path}'", table.faults, ClassListError)
    for name in needs:
        if name not in table.columns or not rows:
            raise ClassListError(f"class list '{path}': expected a column {name} and rows, got {table.header()!r}")
    chosen = (column,) if column else tuple(needs) or _chosen(path, table)
    bad = [name for name in chosen if table.columns.count(name) != 1]
    if bad or not rows:
        raise ClassListError(
            f"class list '{path}': expected rows, and the column {chosen[0]!r} once, got the columns {table.header()}"
        )
    for name in (name for name in table.columns if letters(name) in ("idx", "index")):
        start = int(rows[0][name] == "1")
        for i, row in enumerate(rows):
            if row[name].strip() != str(i + start):
                got = row[name][:20]
                raise ClassListError(f"class list '{path}': expected {name} {i + start} in row {i}, got {got!r}")
    stated = {row[name].strip() for name in table.columns if letters(name) in _YEARS for row in rows}
    year = _year_in(table.columns) or _year_in(f"taxonomy {text}" for text in stated)
    return joined(path, [tuple(row[name] for name in chosen) for row in rows], year)


def _chosen(path: str, table: Table) -> tuple[str, ...]:
    """The columns that make a class's name. Raises: ClassListError: none is called so, or several are."""
    roles = column_roles(table.columns)
    alone = [(role,) for role in ("name", "code")]
    wanted = next(filter(None, ([role for role in group if role in roles] for group in (HALVES, *alone))), [])
    if not wanted or any(len(roles[role]) > 1 for role in wanted):
        several = [name for role in wanted for name in roles[role] if len(roles[role]) > 1]
        raise ClassListError(
            f"class list '{path}': expected one column of names, got "
            f"{f'{len(several)}: ' + ', '.join(several) if several else 'none'} in the columns {table.header()}; say "
            "which: `softlabels run --labels-column NAME` for a teacher's, `softlabels classes --column NAME`, "
            "softlabels.ClassList.from_file(FILE, column=NAME), or save that column alone, one name a line"
        )
    return tuple(roles[role][0] for role in wanted)


def _trimmed(lines: list[str], year: int = 0) -> ListFile:
    names = tuple(line.strip() for line in lines)
    return ListFile(names, _blanks(sum(map(str.__ne__, names, lines))), year)


def _blanks(count: int) -> str:
    plain = f"{count} names without the blanks at their ends" if count else ""
    return plain if count != 1 else "1 name without the blanks at its ends"


def _year_in(texts: Iterable[str]) -> int:
    """The one year of a taxonomy that texts state, such as `inat2024`; 0 where there is none or more than one."""
    years = {int(found[1]) for text in texts for found in _YEAR.finditer(text)}
    return years.pop() if len(years) == 1 else 0
