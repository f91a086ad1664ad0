"""Options: the fields of a dataclass that a user may choose, each with the text that its flag shows."""

import dataclasses
from typing import Any


def option(default: Any, text: str, **flag: Any) -> Any:
    """A dataclass field. flag: what does not follow from its name and type, see `pipeline.cli.flags`."""
    return dataclasses.field(default=default, metadata={"help": text, **flag})
