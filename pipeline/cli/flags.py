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
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter, _ActionsContainer
from collections.abc import Callable, Mapping
from pathlib import Path
from types import UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from pipeline.options import check_numbers, flag_of

_Made = TypeVar("_Made")
Described = Mapping[str, Mapping[str, Any]]
MANIFEST, STORE = "data_manifest.csv", "soft_labels"


def add_command(commands: Any, action: Callable[[Namespace], int], *, store: bool = True) -> ArgumentParser:
    """Add the command of a function `_name`, whose docstring is its help; store: with a store as its argument."""
    summary, _, more = (inspect.getdoc(action) or "").partition("\n\n")
    summary, name = summary.removesuffix("."), action.__name__.removeprefix("_")
    command: ArgumentParser = commands.add_parser(
        name,
        help=summary[:1].lower() + summary[1:],
        description=f"{summary}.",
        epilog=more,
        formatter_class=RawDescriptionHelpFormatter,
    )
    command.set_defaults(name=name, action=action, command=command)
    if store:
        command.add_argument("store", nargs="?", default=STORE, help=f"default {STORE}")
    return command


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
