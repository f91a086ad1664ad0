"""A manifest of a corpus that grew: rows for new files, none for those that are gone; all others stay as they are.

What a person corrected is never touched: labels, splits, stretches, digests, columns of their own. Rows of files that
lie elsewhere than in the folder stay too.
"""

import dataclasses
import os
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pipeline.drafts.groups import GROUP, group_in, grouped_by, level_of_groups, with_folder_groups
from pipeline.drafts.manifest_text import ManifestText
from pipeline.drafts.split import shares_there, split_clips
from softlabels.corpus.manifest import Clip
from softlabels.errors import ManifestError
from softlabels.os_errors import ABSENT
from softlabels.tables import some


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """text: the manifest as it is to be. added, dropped, moved: clips of rows; kept: how many others; remarks."""

    text: ManifestText
    added: Sequence[Clip]
    dropped: Sequence[Clip]
    moved: Sequence[Clip]
    kept: int
    remarks: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class NewClips:
    """The clips of a folder, and how those that the manifest lacks are made like its others.

    found: all of them. root: what paths are relative to; prefix: the folder, as they begin with it.
    shares, seed: of new clips' splits, see `split_clips`; without shares as the manifest is divided, if it is.
    group: the column that tells which clips stay in one split, see `groups`.
    digests: gives clips the sha256 of their files. It also tells a moved file from a new one.
    """

    found: Sequence[Clip]
    root: Path
    prefix: PurePosixPath
    shares: Mapping[str, float] = dataclasses.field(default_factory=dict)
    seed: int = 0
    group: str = GROUP
    digests: Callable[[list[Clip]], list[Clip]] = lambda clips: clips


def updated(text: ManifestText, clips: NewClips) -> Update:
    """Bring a manifest up to date with the files of a folder.

    Raises: ManifestError: none of its files is there (another folder, or the wrong disk), or a clip_id that is taken.
    """
    here, listed = ({_plain(clip.path) for clip in each} for each in (clips.found, text.clips))
    gone = {i: c for i, c in enumerate(text.clips) if _plain(c.path) not in here and _is_gone(c.path, clips.root)}
    new = clips.digests([clip for clip in clips.found if _plain(clip.path) not in listed])
    paths = _moves(gone, new)
    if len(gone) == len(text.clips) and not paths:
        raise ManifestError(
            f"manifest '{text.path}': none of its {len(gone):,} clips has its file below '{clips.root}', such as "
            f"'{text.clips[0].path}': is this the folder it was made of, and its disk there? Nothing was changed"
        )
    new = [clip for clip in new if clip.path not in paths.values()]
    dropped = [i for i, clip in gone.items() if i not in paths and _is_below(clip.path, clips.prefix)]
    kept = text.with_texts("path", paths).without(set(dropped)) if gone else text
    kept = _with_groups(kept, clips)
    new, remarks = _grouped(_with_free_ids(new, kept), kept, clips)
    kept, new = _divided(kept, new, clips)
    return Update(
        text=kept.grown(new) if new else kept,
        added=new,
        dropped=[text.clips[i] for i in dropped],
        moved=[text.clips[i] for i in paths],
        kept=len(text.clips) - len(dropped) - len(paths),
        remarks=[*remarks, *_doubts([text.clips[i] for i in dropped], new, kept, grouped_by(clips.group))],
    )


def _plain(path: str) -> str:
    """A path without what may be written differently: ./a//b is a/b, and one Unicode form."""
    return unicodedata.normalize("NFC", path if "://" in path else os.path.normpath(path))


def _is_below(path: str, prefix: PurePosixPath) -> bool:
    return PurePosixPath(_plain(path)).is_relative_to(_plain(str(prefix)))


def _is_gone(path: str, root: Path) -> bool:
    """Whether a file is not there; one that cannot be looked at, or that the web has, is."""
    if "://" in path:
        return False
    try:
        os.stat(root / path)
    except OSError as e:
        return e.errno in ABSENT
    return False


def _moves(gone: Mapping[int, Clip], new: Sequence[Clip]) -> dict[int, str]:
    """row -> where its file is now, by digest; all rows of one file go together."""
    places = defaultdict(list)
    for clip in reversed(new):
        places[clip.sha256].append(clip.path)
    places.pop("", None)
    moved: dict[str, str] = {}
    for clip in gone.values():
        if clip.path not in moved and places.get(clip.sha256):
            moved[clip.path] = places[clip.sha256].pop()
    return {i: moved[clip.path] for i, clip in gone.items() if clip.path in moved}


def _with_free_ids(new: Sequence[Clip], kept: ManifestText) -> list[Clip]:
    """New clips; one whose clip_id a clip of another folder has gets its path for one. Raises: ManifestError."""
    taken = {clip.clip_id for clip in kept.clips}
    paths = {clip.clip_id: unicodedata.normalize("NFC", clip.path) for clip in new if clip.clip_id in taken}
    lost = sorted(taken.intersection(paths.values()))
    if lost:
        raise ManifestError(
            f"manifest '{kept.path}': other clips have the clip_ids of new files: {some(lost)}; rename them"
        )
    return [dataclasses.replace(clip, clip_id=paths.get(clip.clip_id, clip.clip_id)) for clip in new]


def _with_groups(kept: ManifestText, clips: NewClips) -> ManifestText:
    """A manifest without groups gets those of the files that are there, so that new clips find theirs."""
    groups = {_plain(clip.path): group_in(clip, GROUP) for clip in clips.found if clip.extra}
    if clips.group in kept.columns or not groups:
        return kept
    paths = enumerate(_plain(clip.path) for clip in kept.clips)
    return kept.with_texts(clips.group, {i: groups[path] for i, path in paths if groups.get(path)})


def _grouped(new: list[Clip], kept: ManifestText, clips: NewClips) -> tuple[list[Clip], list[str]]:
    """New clips with a group, in the manifest's column for it; and a remark on those that have none."""
    if not any(clip.extra for clip in new) and GROUP in kept.columns:
        level = level_of_groups(kept.clips, clips.prefix)
        new = with_folder_groups(new, clips.prefix, level) if level else new
    new = [dataclasses.replace(clip, extra=tuple((clips.group, text) for _, text in clip.extra)) for clip in new]
    alone = [clip.clip_id for clip in new if not group_in(clip, clips.group)]
    if not alone or clips.group not in kept.columns:
        return new, []
    return new, [
        f"{len(alone):,} new clips have no {clips.group!r}, such as {alone[0]!r}: each recording is one by itself"
    ]


def _divided(kept: ManifestText, new: list[Clip], clips: NewClips) -> tuple[ManifestText, list[Clip]]:
    """New clips with a split; and all of them, where the manifest has none and shares are given."""
    group_of = grouped_by(clips.group)
    divided = [clip for clip in kept.clips if clip.split]
    if not divided and clips.shares:
        every = split_clips([*kept.clips, *new], clips.shares, seed=clips.seed, group_of=group_of)
        old = len(kept.clips)
        return kept.with_texts("split", {i: clip.split for i, clip in enumerate(every[:old])}), every[old:]
    if not divided:
        return kept, new
    shares = clips.shares or shares_there(divided, group_of)
    return kept, split_clips([*divided, *new], shares, seed=clips.seed, group_of=group_of)[len(divided) :]


def _doubts(
    dropped: Sequence[Clip], new: Sequence[Clip], kept: ManifestText, group_of: Callable[[Clip], str]
) -> list[str]:
    """What a person should look at."""
    names = {PurePosixPath(clip.path).name: clip for clip in new}
    likely = [(clip, names[name]) for clip in dropped if (name := PurePosixPath(clip.path).name) in names]
    remarks = []
    if likely:
        pair = f"'{likely[0][0].path}' and '{likely[0][1].path}'"
        remarks.append(
            f"{len(likely):,} dropped files have the name of an added one, such as {pair}: if they were only moved, "
            "what you corrected of them is dropped; where a manifest has sha256 (--sha256), moved files are known"
        )
    if new and any(clip.fold for clip in kept.clips):
        remarks.append(f"the fold of {len(new):,} new clips is empty: the manifest's other clips have one")
    splits = defaultdict(set)
    for clip in kept.clips:
        splits[group_of(clip)].add(clip.split)
    several = sorted(group.rpartition("\0")[2] for group, found in splits.items() if len(found - {""}) > 1)
    if several:
        remarks.append(
            f"{len(several):,} groups have clips in several splits, which stay as they are: {some(several[:3])}"
        )
    return remarks
