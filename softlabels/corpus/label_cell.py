"""Cells: the one grammar by which class names stand in a manifest, a table of annotations or a folder; and seconds.

A;B            both classes
noise          none of the classes
A;?B           A; and B may be in it: neither present nor absent
(empty)        not annotated
"""

import functools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from softlabels.texts import fault_of_name, shortened

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
    _check_texts(names)
    unsure = tuple(name for name, part in zip(names, parts, strict=True) if part.startswith(UNSURE))
    return LabelCell(tuple(part for part in parts if not part.startswith(UNSURE)), unsure)


def no_label(text: str) -> CellFault:
    """The error of a cell that is none."""
    return CellFault(
        f"expected different class names joined by ';', or {NOISE!r} alone, as label, got {shortened(text)!r}"
    )


@functools.lru_cache(maxsize=10_000)
def read_name(text: str) -> str:
    """Read a cell with one name in it, such as a split; the same ones are one text. Raises: CellFault."""
    _check_texts([text.strip()])
    return text.strip()


def check_names(names: Sequence[str]) -> None:
    """Raises: CellFault: a name that no cell could hold as a class."""
    strange = [name for name in names if BETWEEN in name or name.startswith(UNSURE) or not name.strip()]
    if strange:
        raise CellFault(
            f"a class name may not hold {BETWEEN!r}, which joins labels, nor begin with {UNSURE!r}, which marks unsure "
            f"ones, got {', '.join(repr(shortened(name)) for name in strange[:10])}"
        )
    _check_texts(names)


def _check_texts(names: Iterable[str]) -> None:
    fault = next(filter(None, map(fault_of_name, names)), "")
    if fault:
        raise CellFault(fault)


def read_seconds(text: str, column: str = "") -> float:
    """Read a cell of seconds. Raises: CellFault."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise CellFault(f"expected seconds from 0 up{f' as {column}' if column else ''}, got {shortened(text)!r}")
    return seconds
