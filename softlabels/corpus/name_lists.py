"""Lists of names in one cell of a table, as people and programs write them.

["A", "B"]  ['A', 'B']  ('A', 'B')  {'A', 'B'}          JSON and Python, also np.str_('A'), null and nan left out
['A' 'B']  array(['A', 'B'], dtype=object)  Index(...)   NumPy and pandas; with `...` in it one is missing: refused
c("A", "B")  list("A", "B")  character(0)                R
[A, B]  {A,B}                                            Java, PostgreSQL
A;B  A|B  A,B  one a line                                by hand; `read_names` alone takes these
"""

import ast
import json
import re
from collections.abc import Sequence

BY_HAND = (";", "|", "\n", ",")  # the first that is there; the others are then part of a name
_WRAPPER = re.compile(r"(?:\w+\.)*(array|Index|Series|frozenset|set|tuple|list|c|character)\s*(?=\()")
_BEGINNING = re.compile(rf"{_WRAPPER.pattern}|\[|\{{|\(\s*(u?['\"]|\))")
_SETTING = re.compile(r",\s*(dtype|name|length)\s*=\s*[^,\[\]()]*(?=[,)])")
_TYPED = re.compile(r"(?:np|numpy)\.str_\(\s*((?P<q>['\"])(?:\\.|(?!(?P=q)).)*(?P=q))\s*\)", re.DOTALL)
_QUOTED = r"""u?(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")"""
_NOTHING = r"(?:None|null|NULL|nan|NaN|NA|<NA>)"
_ITEM = rf"(?:{_QUOTED}|{_NOTHING})"
_ITEMS = re.compile(rf"\s*(?:{_ITEM}(?:(?:\s*,\s*|\s+){_ITEM})*\s*,?\s*)?", re.DOTALL)
_BARE = re.compile(r"[^\W\d][^\[\](){}'\",]*")
_CLOSING = {"[": "]", "(": ")", "{": "}"}


class CellFault(ValueError):
    """What is wrong with a cell; its reader says where the cell is."""


def read_list(text: str) -> list[str] | None:
    """The names in a list as programs print it, without empty ones; None for a text that is no such list.

    Raises: CellFault: something that begins like a list and cannot be read as one of names.
    """
    inner = text.strip()
    if not _BEGINNING.match(inner):
        return None
    wrapped = _WRAPPER.match(inner)
    if wrapped and wrapped[1] == "character":
        inner = "()" if re.fullmatch(r"character\(\s*0?\s*\)", inner) else "?"
    while wrapped := _WRAPPER.match(inner):
        inner = _SETTING.sub("", inner[wrapped.end() :])
    inner = _TYPED.sub(r"\1", inner)
    while inner[:1] in _CLOSING and inner.endswith(_CLOSING[inner[0]]):
        inner, outer = inner[1:-1].strip(), inner[0]
        if outer != "(":  # array([...]), set([...]): one bracket in one pair of parentheses, no list of lists
            break
    if _ITEMS.fullmatch(inner):
        quoted = re.findall(_QUOTED, inner, re.DOTALL)
        try:
            return [name.strip() for name in map(ast.literal_eval, quoted) if name.strip()]
        except (ValueError, SyntaxError) as e:
            raise _no_list(text) from e
    bare = [part.strip() for part in inner.split(",")]
    if wrapped or not all(map(_BARE.fullmatch, bare)) or (len(bare) == 1 and " " in bare[0]):
        raise _no_list(text)
    return bare


def join_names(names: Sequence[str], between: str) -> str:
    """The names in one cell, so that `read_list` takes none of them for a list: a class may be called [A]."""
    text = between.join(names)
    return json.dumps(names, ensure_ascii=False) if _BEGINNING.match(text) else text


def read_names(text: str) -> list[str]:
    """The names in a cell, each once and without stray white space: one name, a list, or several as by hand.

    Raises: CellFault.
    """
    names = read_list(text)
    if names is None:
        between = next((mark for mark in BY_HAND if mark in text.strip()), BY_HAND[0])
        names = text.split(between)
    return list(dict.fromkeys(" ".join(name.split()) for name in names if name.strip()))


def _no_list(text: str) -> CellFault:
    return CellFault(f"expected names as A;B or ['A', 'B'], got {text[:80]!r}")
