"""Class lists as published: tables with a heading, codes with a taxonomy beside them. None is shipped here."""

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from softlabels.classes.class_list import ClassList
from softlabels.errors import ClassListError


@dataclass(frozen=True, slots=True)
class PublishedClasses:
    """The classes, and what people have to be told of how they were read."""

    classes: ClassList
    remark: str = ""


def sheet_names(path: Path) -> PublishedClasses:
    """`Scientific name_Common name` of a table with the columns sci_name and com_name, or of one name a line.

    Where the table numbers its rows, in a column idx, they have to be in this order, which is the model's.

    Raises: ClassListError: it cannot be read, lacks a column or a name, or is in another order.
    """
    lines = _lines(path)
    divider = max(";,\t", key=lines[0].count)
    if divider not in lines[0]:
        return listed_names(path)
    rows = list(csv.DictReader(lines, delimiter=divider))
    for name in ("sci_name", "com_name"):
        if name not in (rows[0] if rows else {}):
            raise ClassListError(f"class list '{path}': expected a column {name}, got {lines[0][:200]!r}")
    for i, row in enumerate(rows):
        if row.get("idx", str(i)) != str(i):
            raise ClassListError(f"class list '{path}': expected idx {i} in row {i}, got {row['idx'][:20]!r}")
    return _joined(path, [(row["sci_name"] or "", row["com_name"] or "") for row in rows])


def listed_names(path: Path) -> PublishedClasses:
    """One name a line, after a heading if the first line is one: a single lower-case word.

    Raises: ClassListError: it cannot be read, or is no class list.
    """
    lines = _lines(path)
    heading = lines[0].islower() and " " not in lines[0].strip()
    return _trimmed(path, lines[1:] if heading else lines)


def coded_names(path: Path) -> PublishedClasses:
    """`Scientific name_Common name` of eBird codes, one a line, by the table `ebird_taxonomy.csv` in the same folder.

    Raises: ClassListError: one of both cannot be read, or the table lacks a code or a column.
    """
    taxonomy = path.parent / "ebird_taxonomy.csv"
    codes = [line.strip() for line in _lines(path)]
    table = {row.get("code"): row for row in csv.DictReader(_lines(taxonomy))}
    unknown = [code for code in codes if not (table.get(code) or {}).get("sci_name") or not table[code].get("name")]
    if unknown:
        raise ClassListError(
            f"class list '{path}': expected eBird codes with a code, name and sci_name in '{taxonomy}', which lacks "
            f"{len(unknown)} of {len(codes)}, such as {unknown[0][:50]!r}"
        )
    return _joined(path, [(table[code]["sci_name"], table[code]["name"]) for code in codes])


def _lines(path: Path) -> list[str]:
    """The lines that are not empty, at least one."""
    try:
        lines = [line for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as e:
        raise ClassListError(f"class list '{path}': expected a UTF-8 text file: {e}") from e
    if not lines:
        raise ClassListError(f"class list '{path}': expected names, the file is empty")
    return lines


def _joined(path: Path, halves: Sequence[tuple[str, str]]) -> PublishedClasses:
    lacking = [i for i, pair in enumerate(halves) if not all(half.strip() for half in pair)]
    if lacking:
        raise ClassListError(
            f"class list '{path}': expected a scientific and a common name in every row, row {lacking[0]} has "
            f"{halves[lacking[0]]!r} ({len(lacking)} in all)"
        )
    trimmed = _trimmed(path, (f"{scientific.strip()}_{common.strip()}" for scientific, common in halves))
    blanks = sum(half != half.strip() for pair in halves for half in pair)
    return PublishedClasses(trimmed.classes, f"{blanks} names without the blanks at their ends" if blanks else "")


def _trimmed(path: Path, names: Iterable[str]) -> PublishedClasses:
    names = list(names)
    blanks = sum(name != name.strip() for name in names)
    try:
        classes = ClassList(tuple(name.strip() for name in names))
    except ClassListError as e:
        raise ClassListError(f"class list '{path}': {e}") from e
    return PublishedClasses(classes, f"{blanks} names without the blanks at their ends" if blanks else "")
