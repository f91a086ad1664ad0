"""Cells: the one grammar by which class names stand in a manifest, a table of annotations or a folder; and seconds.

A;B            both classes
noise          none of the classes (or the class of that name, where the class list of a join has one)
A;?B           A; and B may be in it: neither present nor absent
-B             B is absent, and nothing is known of the others; A;-B is A
(empty)        not annotated

A list as programs print it, such as `['A', 'B']` or `c("A", "B")`, is read like A;B; see `name_lists.py`.
"""

import functools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from softlabels.corpus.name_lists import CellFault, join_names, read_list
from softlabels.texts import fault_of_name, shortened

NOISE, UNSURE, ABSENT, BETWEEN = "noise", "?", "-", ";"
BACKGROUND = ("noise", "silence", "background", "other")  # in any case: what folders without a class are called


@dataclass(frozen=True, slots=True)
class LabelCell:
    """What a cell says of classes.

    labels: the annotated names; () = annotated as none of the classes; None = not annotated. unsure: maybe; absent:
    surely not, which says something where labels is None.
    """

    labels: tuple[str, ...] | None = None
    unsure: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()

    def text(self) -> str:
        """The cell as `read_label` reads it."""
        marked = [*(UNSURE + name for name in self.unsure), *(ABSENT + name for name in self.absent)]
        if self.labels is None:
            return join_names(marked, BETWEEN) if self.absent else ""
        return join_names([*self.labels, *marked], BETWEEN) or NOISE


@functools.lru_cache(maxsize=10_000)  # a million rows, a hundred labels: each is parsed and held once
def read_label(text: str) -> LabelCell:
    """Read a cell. Raises: CellFault."""
    listed = read_list(text)
    if listed == [] or not text.strip():
        return LabelCell()
    parts = [part.strip() for part in (text.split(BETWEEN) if listed is None else listed)]
    if parts == [NOISE]:
        return LabelCell(())
    names = [part.removeprefix(UNSURE).removeprefix(ABSENT).strip() for part in parts]
    if "" in names or NOISE in names or len(set(names)) < len(names) or any(BETWEEN in name for name in names):
        raise no_label(text)
    _check_texts(names)
    pairs = list(zip(names, parts, strict=True))
    unsure, absent = (tuple(n for n, part in pairs if part.startswith(mark)) for mark in (UNSURE, ABSENT))
    labels = tuple(part for part in parts if not part.startswith((UNSURE, ABSENT)))
    return LabelCell(labels if labels or not absent else None, unsure, absent)


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
    strange = [name for name in names if BETWEEN in name or name.startswith((UNSURE, ABSENT)) or not name.strip()]
    if strange:
        raise CellFault(
            f"a class name may not hold {BETWEEN!r}, which joins labels, nor begin with {UNSURE!r}, which marks unsure "
            f"ones, or {ABSENT!r}, which marks absent ones, got {', '.join(repr(shortened(n)) for n in strange[:10])}"
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
