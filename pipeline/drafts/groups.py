"""Groups: clips that stay in one split, such as those of a site or a speaker; else a recording is one."""

import dataclasses
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import PurePosixPath

from softlabels.corpus.manifest import Clip

GROUP = "group"  # the column of a manifest that tells them


def group_in(clip: Clip, column: str) -> str:
    """What a column of one's own says of a clip; "" if nothing."""
    return next((text for name, text in clip.extra if name == column), "").strip()


def grouped_by(column: str) -> Callable[[Clip], str]:
    """What tells the group of a clip: its text in a column; where that is empty, its recording."""
    return lambda clip: f"{column}\0{text}" if (text := group_in(clip, column)) else clip.path


def with_folder_groups(clips: Sequence[Clip], prefix: PurePosixPath, level: int) -> list[Clip]:
    """Clips with the name of the first, second, ... folder below `prefix` as their group."""
    return [dataclasses.replace(clip, extra=((GROUP, _folder(clip, prefix, level)),)) for clip in clips]


def level_of_groups(clips: Sequence[Clip], prefix: PurePosixPath) -> int:
    """At which level the folders are the groups of all clips that have one; 0 if at none."""
    grouped = [clip for clip in clips if group_in(clip, GROUP)]
    deepest = max((len(PurePosixPath(clip.path).parts) for clip in grouped), default=0)
    levels = range(1, deepest)
    return next((n for n in levels if all(_folder(c, prefix, n) == group_in(c, GROUP) for c in grouped)), 0)


def _folder(clip: Clip, prefix: PurePosixPath, level: int) -> str:
    path = PurePosixPath(clip.path)
    folders = path.relative_to(prefix).parts[:-1] if path.is_relative_to(prefix) else ()
    return unicodedata.normalize("NFC", folders[level - 1]) if level <= len(folders) else ""
