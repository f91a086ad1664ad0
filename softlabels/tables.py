"""CSV tables that people write: the one reader, with line numbers, and the one way their faults are reported.

All of a table is text: `007` is not 7. A byte-order mark, CRLF and blank lines, also those of a spreadsheet (`,,,`),
are fine.
"""

import csv
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Literal

from softlabels.errors import SoftLabelsError

SHOWN = 10  # faults, and names in a message


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
        """The columns that are given more than once."""
        return sorted({name for name in self.columns if self.columns.count(name) > 1})

    def header(self) -> str:
        """The columns, for an error."""
        return ", ".join(self.columns) or "an empty file"


@contextmanager
def open_table(path: str | Path, what: str, error: type[SoftLabelsError], *, tabs: bool = False) -> Iterator[Table]:
    """Read a UTF-8 CSV for as long as the block lasts.

    Args:
      what: to call it in an error, such as "manifest"; error: to raise.
      tabs: a header with a tab in it makes it a table of Raven's: tab-separated, nothing quoted unless the header is.
    """
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            header = file.readline()
            raven = tabs and "\t" in header
            file.seek(0)
            quoting: Literal[0, 3] = csv.QUOTE_NONE if raven and '"' not in header else csv.QUOTE_MINIMAL
            lines = csv.reader(file, strict=True, delimiter="\t" if raven else ",", quoting=quoting)
            columns = [name.strip() for name in next(lines, [])]
            yield Table(columns, ((lines.line_num, fields) for fields in lines if any(map(str.strip, fields))))
    except (OSError, UnicodeDecodeError, csv.Error) as e:
        raise error(f"{what} '{path}': expected a UTF-8 CSV file, got: {e}") from e


def write_table(path: str | Path, columns: Iterable[str], rows: Iterable[Iterable[object]], *, mode: str = "w") -> None:
    """Write a CSV that `open_table` reads."""
    with open(path, mode, encoding="utf-8", newline="") as file:
        write_rows(file, columns, rows)


def write_rows(file: IO[str], columns: Iterable[str], rows: Iterable[Iterable[object]]) -> None:
    """The same into an open file."""
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)


def raise_faults(
    source: str, faults: list[str], error: type[SoftLabelsError], *, do: str = "correct these rows and run again"
) -> None:
    """Raise all faults together, the first ten shown; does nothing where there are none."""
    if faults:
        more = f"\n  ... and {len(faults) - SHOWN} more" if len(faults) > SHOWN else ""
        listed = "".join(f"\n  {fault}" for fault in faults[:SHOWN])
        count = f"{len(faults)} fault{'s' * (len(faults) > 1)}"
        raise error(f"{source}: {count}; {do}:{listed}{more}")


def some(names: Iterable[object]) -> str:
    """The first ten names, quoted, for an error."""
    return ", ".join(repr(name) for name in list(names)[:SHOWN])
