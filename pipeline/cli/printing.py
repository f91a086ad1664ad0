"""What commands print, and how: `name  value` lines and JSON on stdout, progress and advice on stderr.

What is printed comes from file names, class lists and stores of strangers, and goes to a terminal: it is escaped here.
"""

import json
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tqdm import tqdm

from softlabels.texts import Shown, printable


def print_line(*cells: object) -> None:
    """One line on stdout, the cells with tabs between them."""
    print("\t".join(printable(str(cell)) for cell in cells))


def tell(text: str) -> None:
    """One line on stderr."""
    print(printable(text), file=sys.stderr)


def tell_above(bar: tqdm, text: str) -> None:
    """One line on stderr, above a bar that goes on."""
    bar.write(printable(text), file=sys.stderr)


def tell_error(name: str, e: Exception) -> None:
    """Why a command did nothing; a list of faults has a line each."""
    text = e.args[0] if e.args and isinstance(e.args[0], Shown) else str(e)
    tell(Shown(f"softlabels {name}: {printable(text)}"))


class EscapingFormatter(logging.Formatter):
    """Of what the library warns of, on stderr."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


def print_fields(**fields: Any) -> None:
    """One line each, the values below each other."""
    width = 2 + max(map(len, fields))
    for name, value in fields.items():
        print_line(f"{name:<{width}}{value:,}" if isinstance(value, int) else f"{name:<{width}}{value}")


def named(of: object, *names: str) -> dict[str, Any]:
    """Some attributes, to be printed."""
    return {name: getattr(of, name) for name in names}


def print_json(value: object) -> None:
    """One JSON object, as a person reads it; what a terminal might obey is escaped as JSON does."""
    text = json.dumps(value, indent=2, ensure_ascii="utf" not in (sys.stdout.encoding or "utf-8").lower())
    print("".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text))


def progress_bar(total: int, unit: str, delay: float = 0) -> tqdm:
    """A bar on stderr."""
    often = 0.1 if sys.stderr.isatty() else 60  # a log file wants a line a minute
    return tqdm(total=total, unit=f" {unit}", mininterval=often, delay=delay, dynamic_ncols=True, leave=False)


@contextmanager
def progress(total: int, unit: str) -> Iterator[Callable[[int], None]]:
    """A bar once a job takes a second; what it gives is called with the number of things just done."""
    with progress_bar(total, unit, delay=1) as bar:

        def on_done(number: int) -> None:
            bar.update(number)

        yield on_done
