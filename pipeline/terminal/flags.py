"""Flags made from what they set: one for each described field of an option dataclass, or parameter of a function.

A field is described by `pipeline.options.option`; a parameter, or a field of somebody else's, by a mapping of the same:
`help`, and where they do not follow from name and type, `flags`, `metavar`, `choices` or `type`.

annotation           flag
int, float, Path     --name VALUE, of this type; any other is text
Literal["a", "b"]    --name {a,b}
Sequence[int]        --name VALUE, may be given again; tuple[str, ...] likewise
bool                 --name sets it; of `bool | None`, --no-name clears it
"""

import dataclasses
import inspect
import re
import textwrap
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter, _ActionsContainer
from collections.abc import Callable, Mapping
from pathlib import Path
from types import UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from pipeline.options import check_numbers, flag_of

_Made = TypeVar("_Made")
Described = Mapping[str, Mapping[str, Any]]
COLUMNS = 79  # of help
_GAP = re.compile(r"\S {2,}\S")  # between the columns of a table
_NO_BREAK = "\u00a0"
MANIFEST, STORE = "data_manifest.csv", "soft_labels"


def add_command(
    commands: Any, action: Callable[[Namespace], int], *, store: bool = True, json: bool = True
) -> ArgumentParser:
    """Add the command of a function `_name`, whose docstring is its help.

    Args:
      store: with a store as its argument. json: with --json.
    """
    summary, _, more = (inspect.getdoc(action) or "").partition("\n\n")
    summary, name = summary.removesuffix("."), action.__name__.removeprefix("_")
    command: ArgumentParser = commands.add_parser(
        name,
        help=summary[:1].lower() + summary[1:],
        description=_fitted(f"{summary}."),
        epilog=_fitted(more),
        formatter_class=RawDescriptionHelpFormatter,
    )
    command.set_defaults(name=name, action=action, command=command)
    if store:
        command.add_argument("store", nargs="?", default=STORE, help=f"default {STORE}")
    printed = command.add_argument_group("what is printed")
    if json:
        printed.add_argument("--json", action="store_true", help="the results as one JSON object")
    printed.add_argument("-q", "--quiet", action="store_true", help="nothing on stderr but errors")
    printed.add_argument("-v", "--verbose", action="store_true", help="also what libraries and workers print")
    return command


def _fitted(text: str) -> str:
    """The text in lines that fit a terminal: prose is filled again, the last column of a table is kept as one."""
    lines: list[str] = []
    was_long = False
    for line in text.splitlines():
        plain = not _GAP.search(line) and not line.strip().startswith("softlabels ")
        if was_long and plain and line.strip() and len(line) - len(line.lstrip()) == _hanging(lines[-1]):
            lines[-1] += f" {line.strip()}"
        else:
            lines.append(line)
        was_long = len(line) > COLUMNS
    return "\n".join(_wrapped_command(line) if line[:13] == "  softlabels " else _wrapped(line) for line in lines)


def _hanging(line: str) -> int:
    """Where the last column begins; where the text does, if there are no columns."""
    gaps = list(_GAP.finditer(line))
    return gaps[-1].end() - 1 if gaps else len(line) - len(line.lstrip())


def _wrapped(line: str) -> str:
    return textwrap.fill(line, COLUMNS, subsequent_indent=" " * _hanging(line), break_on_hyphens=False)


def _wrapped_command(line: str) -> str:
    """An example: what it does comes below if there is no room beside it, and a break is one that a shell knows."""
    if len(line) <= COLUMNS:
        return line
    command, _, what = line.strip().partition("  ")
    only_before_flags = re.sub(" (?!-)", _NO_BREAK, command)
    parts = textwrap.wrap(only_before_flags, COLUMNS - 8, break_on_hyphens=False)
    below = [_wrapped(f"      {what.strip()}")] if what else []
    return "\n".join(["  " + " \\\n      ".join(parts).replace(_NO_BREAK, " "), *below])


def add_flags(group: _ActionsContainer, owner: Callable[..., Any], described: Described | None = None) -> None:
    """Add a flag for every described field or parameter of a dataclass or function, in their order."""
    texts = dict(described or {})
    if dataclasses.is_dataclass(owner) and not texts:
        texts = {field.name: field.metadata for field in dataclasses.fields(owner)}
    hints = get_type_hints(owner)
    for name, parameter in inspect.signature(owner).parameters.items():
        if texts.get(name):
            _add_flag(group, name, hints[name], parameter.default, **texts[name])


def _add_flag(
    group: _ActionsContainer, name: str, hint: Any, default: Any, *, flags: str = "", **settings: Any
) -> None:
    alternatives = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    kinds = [kind for kind in alternatives if kind is not type(None)]
    kind, negated = kinds[0], kinds[0] is bool and hint is not bool
    flags = flags or ("--no-" + flag_of(name).removeprefix("--") if negated else flag_of(name))
    if kind is bool:
        settings |= {"action": "store_const", "const": not negated}
    elif get_origin(kind) is Literal:
        settings["choices"] = get_args(kind)
    elif get_args(kind):
        settings |= {"action": "append", "type": get_args(kind)[0]}
        default = list(default) if isinstance(default, tuple) else default  # argparse appends to a copy of it
    elif kinds in ([int], [float], [Path]):
        settings = {"type": kind, **settings}
    if kind is not bool and not settings.get("choices"):
        settings.setdefault("metavar", flags.rpartition("--")[2].replace("-", "_").upper())
    if default is inspect.Parameter.empty:
        settings["required"], default = True, None
    group.add_argument(*flags.split(), dest=name, default=default, **settings)


def check_flags(args: Namespace) -> None:
    """Hold every number that was given against what it may be. Raises: ValueError: with its flag."""
    command: ArgumentParser = args.command
    given = {name: value for name, value in vars(args).items() if value != command.get_default(name)}
    flags = {each.dest: each.option_strings[-1] for each in command._actions if each.option_strings}
    check_numbers(given, flags)


def filled(owner: Callable[..., _Made], args: Namespace, **others: Any) -> _Made:
    """What a dataclass or function gives with the arguments of its names, and with others that go before them."""
    names = inspect.signature(owner).parameters
    return owner(**{name: value for name, value in vars(args).items() if name in names} | others)
