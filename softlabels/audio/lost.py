"""What is there instead of a recording that is not: one word for whoever looks for a file below an audio root."""

import os
import unicodedata
from contextlib import suppress
from pathlib import Path

from softlabels.storage.location import Location

_WAYS = {
    "with '/' for '\\'": lambda text: text.replace("\\", "/"),
    "in other Unicode characters (NFC, NFD)": lambda text: unicodedata.normalize("NFC", text),
    "in other case": str.casefold,
}


def hint(root: Location, path: str) -> str:
    """What is there instead of a path, in words that follow it; "" if nothing like it is, and of a bucket.

    Example:
      >>> from pathlib import Path
      >>> hint(Path(), "DATA_manifest.csv")
      " (but 'data_manifest.csv' is, in other case)"
    """
    if not isinstance(root, Path):
        return ""
    with suppress(OSError):  # a name that no file can have, a folder that may not be listed
        if (root / path).is_symlink():
            return " (a link to a file that is not here: `git annex get`, `datalad get` or `dvc pull` fetches it)"
        if (root / path).is_file():
            return " (only a pointer to it is: `git lfs pull`, `git annex get` or `datalad get` fetches it)"
        return _similar_below(root, path) or _elsewhere(root, path)
    return ""


def _similar_below(root: Path, path: str) -> str:
    """The path, or what remains of it without its first folders, written in another way."""
    parts = path.replace("\\", "/").split("/")
    for k in range(len(parts)):
        rest = "/".join(parts[k:])
        if found := _similar(root, rest):
            written = path[len(path) - len(rest) :]
            ways = [way for way in _WAYS if _differ_without(way, written, found)]
            without = [f"without '{path[: len(path) - len(rest)]}'"] if k else []
            return f" (but '{found}' is{', ' * bool(ways or without)}{' and '.join(without + ways)})"
        if k == 0 and (above := _above(root, parts)):
            return above
    return ""


def _differ_without(way: str, a: str, b: str) -> bool:
    """Whether two paths that are alike are so only with one of the ways of writing them."""
    for name, same in _WAYS.items():
        if name != way:
            a, b = same(a), same(b)
    return a != b


def _above(root: Path, parts: list[str]) -> str:
    """The folder above the root, where the path begins with folders that lead to it."""
    for k in range(1, len(parts)):
        if parts[:k] == list(root.resolve().parts[-k:]) and (root / "/".join(parts[k:])).is_file():
            return f" (it is below --root {root.resolve().parents[k - 1]})"
    return ""


def _elsewhere(root: Path, path: str) -> str:
    """A folder of the root below which the path is, or what remains of it without its first folders."""
    folders, parts = [each for each in sorted(root.iterdir()) if each.is_dir()], path.split("/")
    for k in range(len(parts)):
        rest = "/".join(parts[k:])
        if below := next((each for each in folders if (each / rest).is_file()), None):
            return f" (but '{below.name}/{rest}' is)" if k else f" (it is below --root {below})"
    return ""


def _similar(root: Path, path: str) -> str:
    """The file whose path differs from this one in case and Unicode form alone, relative to the root; "" if none."""
    at = ""
    for part in path.split("/"):
        try:
            names = sorted(os.listdir(root / at))
        except OSError:
            return ""
        name = next((each for each in names if _plain(each) == _plain(part)), None)
        if name is None:
            return ""
        at = f"{at}/{name}" if at else name
    return at if (root / at).is_file() else ""


def _plain(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
