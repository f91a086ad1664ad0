"""Paths of a manifest that lead nowhere: all of them are a wrong root; a few may be written otherwise than files."""

import logging
import os
import unicodedata
from collections.abc import Mapping
from pathlib import Path

from pipeline.planning.probe import FileProbe
from softlabels.errors import ManifestError
from softlabels.storage.location import Location

SHOWN = 3
logger = logging.getLogger(__name__)


def check_lost(probes: Mapping[str, FileProbe], root: Location, *, new: bool) -> None:
    """Warn of files that are not there, with what is there instead.

    Args:
      new: no store is there yet.
    Raises: ManifestError: none of them is there, and the store would be made of that.
    """
    lost = [path for path, probe in probes.items() if probe.reason == "missing"]
    if not lost:
        return
    hints = [f"'{path}'{hint(root, path)}" for path in sorted(lost)[:SHOWN]]
    if new and len(lost) == len(probes):
        raise ManifestError(
            f"none of the {len(lost):,} files of the manifest is below '{root}', such as {', '.join(hints)}: is --root "
            "right? It is the folder that the manifest's paths are relative to"
        )
    logger.warning("%d of %d files are not below '%s', such as %s", len(lost), len(probes), root, ", ".join(hints))


def hint(root: Location, path: str) -> str:
    """What is there instead of a path, in words; "" if nothing like it is."""
    if not isinstance(root, Path):
        return ""
    found = _similar(root, path.replace("\\", "/"))
    if found:
        ways = {
            "with '/' for '\\'": lambda text: text.replace("\\", "/"),
            "in other Unicode characters (NFC, NFD)": lambda text: unicodedata.normalize("NFC", text),
            "in other case": str.casefold,
        }
        differs = [way for way, same in ways.items() if same(path) != path or same(found) != found]
        return f" (but '{found}' is, {' and '.join(differs)})"
    parts = path.split("/")
    for k in range(1, len(parts)):
        if parts[:k] == list(root.resolve().parts[-k:]) and (root / "/".join(parts[k:])).is_file():
            return f" (it is below --root {root.resolve().parents[k - 1]})"
    below = next((each for each in sorted(root.iterdir()) if each.is_dir() and (each / path).is_file()), None)
    return f" (it is below --root {below})" if below else ""


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
    return at


def _plain(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
