"""CSV tables that people write: the one reader, with line numbers, and the one way their faults are reported.

All of a table is text: `007` is not 7. A byte-order mark, CRLF and blank lines, also those of a spreadsheet (`,,,`),
are fine.

A spreadsheet takes a cell that begins with = + - @ for a formula, and runs it; a file name may be one. So the tables
that we write have an apostrophe before such a cell (and before one that begins with apostrophes and then this), and our
reader takes it off again: what is read is what was written.
"""

import csv
import difflib
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Literal

from softlabels.errors import SoftLabelsError
from softlabels.path_kinds import what_is_at
from softlabels.texts import Shown, printable

SHOWN = 10  # faults, and names in a message
_FORMULA = re.compile("'*[=+\\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")  # the last four are wide forms of the first
_GUARDS = (b",'", b";'", b"\t'", b"\n'", b"\"'", b"\r'")  # where a cell may begin with an apostrophe
_BLOCK = 1 << 20


@dataclass(slots=True)
class Table:
    """An open table. Iterating gives (line, column -> text) of every row that has as many fields as the header.

    columns: of the header, without surrounding blanks; faults: collects "line n: ..." of the rows passed over.
    """

    columns: list[str]
    _lines: Iterator[tuple[int, list[str]]]
    faults: list[str] = field(default_factory=list)

    def __iter__(self) -> Iterator[tuple[int, dict[str, str]]]:
        for line, fields in self._lines:
            if len(fields) == len(self.columns):
                yield line, dict(zip(self.columns, fields, strict=True))
            else:
                self.faults.append(f"line {line}: expected {len(self.columns)} fields, got {len(fields)}")

    def twice(self) -> list[str]:
        """The columns that are given more than once; those without a name are no column."""
        return sorted({name for name in self.columns if name and self.columns.count(name) > 1})

    def own_columns(
        self, required: tuple[str, ...], optional: tuple[str, ...], source: str, error: type[SoftLabelsError]
    ) -> list[str]:
        """The columns besides the known ones, which are a person's own.

        Raises: `error`: one is missing, misspelt or given twice.
        """
        known = required + optional
        lacking = [name for name in known if name not in self.columns]
        own = [name for name in self.columns if name and name not in known]
        misspelt = ((name, meant) for name in own if (meant := meant_by(name, known, lacking)))
        faults = [
            f"unknown column {name!r}: call it {meant!r} if it is that, else give it a name that is less alike"
            for name, meant in misspelt
        ]
        faults += [f"column {name!r} is missing" for name in lacking if name in required]
        faults += [f"column {name!r} is given twice" for name in self.twice()]
        if faults:
            raise error(
                f"{source}: {faults[0]}: expected columns {', '.join(required)}, optionally {', '.join(optional)}, and "
                f"any of your own, got {self.header()}"
            )
        return own

    def header(self) -> str:
        """The columns, for an error."""
        return ", ".join(self.columns) or "an empty file"


@contextmanager
def open_table(
    path: str | Path,
    what: str,
    error: type[SoftLabelsError],
    *,
    tabs: bool = False,
    ours: bool = False,
    spreadsheet: bool = False,
) -> Iterator[Table]:
    """Read a UTF-8 CSV for as long as the block lasts.

    Args:
      what: to call it in an error, such as "manifest"; error: to raise.
      tabs: a header with a tab in it makes it a table of Raven's: tab-separated, nothing quoted unless the header is.
      ours: `write_rows` may have written it, so that cells may have an apostrophe before them.
      spreadsheet: one may have saved it: with commas, semicolons or tabs, whatever its header has most of.
    """
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            header = file.readline()
            raven = tabs and "\t" in header
            file.seek(0)
            quoting: Literal[0, 3] = csv.QUOTE_NONE if raven and '"' not in header else csv.QUOTE_MINIMAL
            delimiter = "\t" if raven else max(",;\t", key=header.count) if spreadsheet else ","
            lines = csv.reader(file, strict=True, delimiter=delimiter, quoting=quoting)
            columns = [(_unguarded(name) if ours else name).strip() for name in next(lines, [])]
            rows = ((lines.line_num, fields) for fields in lines if any(map(str.strip, fields)))
            if ours and _may_have_guards(path):
                rows = ((line, [_unguarded(cell) for cell in fields]) for line, fields in rows)
            yield Table(columns, rows)
    except (OSError, UnicodeDecodeError) as e:
        raise error(f"{what} '{path}': expected a UTF-8 CSV file, got {what_is_at(path)}") from e
    except csv.Error as e:
        raise error(f"{what} '{path}': expected a UTF-8 CSV file, got: {e}") from e


def write_rows(file: IO[str], columns: Iterable[str], rows: Iterable[Iterable[object]]) -> None:
    """Write a CSV that `open_table` reads, and that a spreadsheet runs nothing of."""
    writer = csv.writer(_Lines(file), lineterminator="\r\n")  # so that a cell with a \r is quoted
    writer.writerow([_guarded(name) for name in columns])
    writer.writerows([_guarded(cell) for cell in row] for row in rows)


def row_text(cells: Iterable[object]) -> str:
    """One row as `write_rows` writes it, without its line end."""
    file = io.StringIO()
    csv.writer(file, lineterminator="\r\n").writerow([_guarded(cell) for cell in cells])
    return file.getvalue().removesuffix("\r\n")


class _Lines:
    """A file that gets one row at a time, each ended as on Unix."""

    def __init__(self, file: IO[str]) -> None:
        self._write = file.write

    def write(self, row: str) -> int:
        return self._write(row.removesuffix("\r\n") + "\n")


def meant_by(column: str, known: Sequence[str], lacking: Sequence[str]) -> str:
    """Which known column another one is most likely a misspelling of, "" of none.

    Args:
      lacking: those of the known ones that the table lacks: `labels` beside `label` is another column; `Label` is not.
    Example:
      >>> [meant_by(name, ["label", "end_s"], ["end_s"]) for name in ("Label", "lable", "end", "site")]
      ['label', '', 'end_s', '']
    """
    plain = _letters(column)
    same = [name for name in known if _letters(name) == plain]
    alike = {_letters(name): name for name in lacking}
    near = [name for name in alike if name[0] == plain[:1] and abs(len(name) - len(plain)) <= 1]
    same += [alike[name] for name in difflib.get_close_matches(plain, near, n=1, cutoff=0.75)]
    return next(iter(same), "")


def _letters(name: str) -> str:
    return "".join(filter(str.isalnum, name.casefold()))


def _guarded(cell: object) -> object:
    return f"'{cell}" if isinstance(cell, str) and _FORMULA.match(cell) else cell


def _unguarded(cell: str) -> str:
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


def _may_have_guards(path: str | Path) -> bool:
    """Asked once a table, because most have none and a million rows."""
    with open(path, "rb") as file:
        before = b""
        while block := file.read(_BLOCK):
            if any(guard in before + block for guard in _GUARDS):
                return True
            before = block[-1:]
    return False


def raise_faults(
    source: str, faults: list[str], error: type[SoftLabelsError], *, do: str = "correct these rows and run again"
) -> None:
    """Raise all faults together, the first ten shown; does nothing where there are none."""
    if faults:
        more = f"\n  ... and {len(faults) - SHOWN} more" if len(faults) > SHOWN else ""
        listed = "".join(f"\n  {printable(fault)}" for fault in faults[:SHOWN])
        count = f"{len(faults)} fault{'s' * (len(faults) > 1)}"
        raise error(Shown(f"{printable(source)}: {count}; {do}:{listed}{more}"))


def some(names: Iterable[object]) -> str:
    """The first ten names, quoted, for an error."""
    return ", ".join(repr(name) for name in list(names)[:SHOWN])
