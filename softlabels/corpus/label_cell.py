"""Cells: the one grammar by which class names stand in a manifest, a table of annotations or a folder; and seconds.

A;B            both classes
noise          none of the classes
A;?B           A; and B may be in it: neither present nor absent
(empty)        not annotated
"""

import functools
import math
from collections.abc import Iterable
from dataclasses import dataclass

NOISE, UNSURE, BETWEEN = "noise", "?", ";"


class CellFault(ValueError):
    """What is wrong with a cell; its reader says where the cell is."""


@dataclass(frozen=True, slots=True)
class LabelCell:
    """labels: the annotated class names; () = annotated as none of the classes; None = not annotated. unsure: maybe."""

    labels: tuple[str, ...] | None = None
    unsure: tuple[str, ...] = ()

    def text(self) -> str:
        """The cell as `read_label` reads it."""
        if self.labels is None:
            return ""
        return BETWEEN.join([*self.labels, *(UNSURE + name for name in self.unsure)]) or NOISE


@functools.lru_cache(maxsize=10_000)  # a million rows, a hundred labels: each is parsed and held once
def read_label(text: str) -> LabelCell:
    """Read a cell. Raises: CellFault."""
    if not text.strip():
        return LabelCell()
    parts = [part.strip() for part in text.split(BETWEEN)]
    if parts == [NOISE]:
        return LabelCell(())
    names = [part.removeprefix(UNSURE).strip() for part in parts]
    if "" in names or NOISE in names or len(set(names)) < len(names):
        raise no_label(text)
    unsure = tuple(name for name, part in zip(names, parts, strict=True) if part.startswith(UNSURE))
    return LabelCell(tuple(part for part in parts if not part.startswith(UNSURE)), unsure)


def no_label(text: str) -> CellFault:
    """The error of a cell that is none."""
    return CellFault(f"expected different class names joined by ';', or {NOISE!r} alone, as label, got {text!r}")


def check_names(names: Iterable[str]) -> None:
    """Raises: CellFault: a name that no cell could hold as a class."""
    strange = [name for name in names if BETWEEN in name or name.startswith(UNSURE) or not name.strip()]
    if strange:
        raise CellFault(
            f"a class name may not hold {BETWEEN!r}, which joins labels, nor begin with {UNSURE!r}, which marks unsure "
            f"ones, got {', '.join(map(repr, strange[:10]))}"
        )


def read_seconds(text: str, column: str = "") -> float:
    """Read a cell of seconds. Raises: CellFault."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise CellFault(f"expected seconds from 0 up{f' as {column}' if column else ''}, got {text!r}")
    return seconds
