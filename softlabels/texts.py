"""Text that files and strangers bring along: what a name may be, and how it is shown to a person.

A name is checked where it enters (a manifest, a class list), and escaped where it leaves for a terminal, which would
obey what it is sent: move the cursor, change its title, write from right to left.
"""

import re
import unicodedata

MAX_PATH = 10_000  # characters of a path or a clip_id, which is often one; Linux takes 4,096 bytes
MAX_NAME = 1000  # of a class, a split or a fold
SHOWN_CHARACTERS = 120  # of a name, in an error
_NO_TEXT = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")  # controls, line breaks, bytes not in UTF-8


class Shown(str):
    """A text of several lines whose parts were escaped: its line breaks are its own."""

    __slots__ = ()


def fault_of_name(text: str, what: str = "a name without control characters", most: int = MAX_NAME) -> str:
    """What keeps a text from being a name of at most so many characters; "" if nothing does."""
    if len(text) <= most and text.isprintable() and text.strip():
        return ""
    if len(text) > most:
        return f"expected {what}, at most {most:,} long, got {len(text):,} characters: {text[:20]!r}…"
    return f"expected {what}, got {text!r}" if not text.strip() or _NO_TEXT.search(text) else ""


def shortened(text: str) -> str:
    """The beginning of a text, for an error."""
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}…"


def printable(text: str) -> str:
    """The text on one line, with all that a terminal might obey, or would not show, as an escape sequence of Python's.

    Escaped are controls, line breaks, marks that turn the writing, characters without width, and what is no character.
    Example:
      >>> printable("a\\x1b[2Jb\\u202ec")
      'a\\\\x1b[2Jb\\\\u202ec'
    """
    if text.isprintable() or isinstance(text, Shown):
        return text
    return "".join(c if c.isprintable() or unicodedata.category(c) == "Zs" else _escaped(c) for c in text)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode()
