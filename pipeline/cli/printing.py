"""What commands print in the same way: `name  value` lines and JSON on stdout, progress on stderr."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tqdm import tqdm


def print_fields(**fields: Any) -> None:
    """One line each, the values below each other."""
    width = 2 + max(map(len, fields))
    for name, value in fields.items():
        print(f"{name:<{width}}{value:,}" if isinstance(value, int) else f"{name:<{width}}{value}")


def named(of: object, *names: str) -> dict[str, Any]:
    """Some attributes, to be printed."""
    return {name: getattr(of, name) for name in names}


def print_json(value: object) -> None:
    """One JSON object, as a person reads it."""
    print(json.dumps(value, indent=2, ensure_ascii=False))


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
