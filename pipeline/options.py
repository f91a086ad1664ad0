"""Options: the fields of a dataclass that a user may choose, each with the text of its flag; and what numbers may be.

name               may be
jobs               -1 (one a core), or 1 or more
seed               any whole number
offset             any number
peak               above 0, at most 1
shards, overlap_s  0 or more
jitters            1 to 64
recompute, threshold  0 to 1
min_probability    between 0 and 1
any other          above 0, and not infinite
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

from softlabels.records.spec import MAX_JITTERS

_RANGES: Mapping[str, tuple[Callable[[float], bool], str]] = {
    "jobs": (lambda n: n == -1 or n >= 1, "-1 for one a core, or 1 or more"),
    "seed": (lambda n: True, "a whole number"),
    "shards": (lambda n: n >= 0, "0 or more"),
    "overlap_s": (lambda s: s >= 0, "seconds, 0 or more"),
    "offset": (lambda x: True, "a number"),
    "peak": (lambda x: 0 < x <= 1, "above 0, at most 1"),
    "jitters": (lambda n: 1 <= n <= MAX_JITTERS, f"1 to {MAX_JITTERS}"),
    "recompute": (lambda share: 0 <= share <= 1, "a share from 0 to 1"),
    "threshold": (lambda p: 0 <= p <= 1, "a probability from 0 to 1"),
    "min_probability": (lambda p: 0 < p < 1, "a probability between 0 and 1, both excluded"),
}


def option(default: Any, text: str, **flag: Any) -> Any:
    """A dataclass field. flag: what does not follow from its name and type, see `pipeline.terminal.flags`."""
    return dataclasses.field(default=default, metadata={"help": text, **flag})


def flag_of(name: str) -> str:
    """The flag of an option, where its description names no other: `timeout_s` is `--timeout`."""
    return "--" + name.removesuffix("_hz").removesuffix("_s").replace("_", "-")


def check_numbers(values: Mapping[str, Any], flags: Mapping[str, str] | None = None) -> None:
    """Hold every number among some options against what it may be; other values are passed over.

    Args:
      values: by the names of the options. flags: what to call them, where that is not `flag_of`.
    Raises: ValueError: one that is out of its range, infinite or no number, with its flag.
    """
    for name, value in values.items():
        for number in value if isinstance(value, list | tuple) else [value]:
            if isinstance(number, bool) or not isinstance(number, int | float):
                continue
            holds, expected = _RANGES.get(
                name, (lambda n: n > 0, "1 or more" if isinstance(number, int) else "above 0")
            )
            if not math.isfinite(number) or not holds(number):
                raise ValueError(f"{(flags or {}).get(name, flag_of(name))}: expected {expected}, got {number}")
