"""From a folder of recordings to a manifest: one folder a class, as most collections are kept."""

import dataclasses
import functools
import os
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import joblib

from softlabels.audio.decode import audio_sha256
from softlabels.corpus.label_cell import ABSENT, BACKGROUND, NOISE, LabelCell, check_names
from softlabels.corpus.manifest import Clip, check_names_of
from softlabels.corpus.name_lists import CellFault
from softlabels.errors import AudioError, ManifestError
from softlabels.threads import in_threads

AUDIO_SUFFIXES = frozenset(
    [
        ".wav",
        ".wave",
        ".bwf",
        ".rf64",
        ".w64",
        ".flac",
        ".ogg",
        ".oga",
        ".opus",
        ".mp3",
        ".m4a",
        ".mp4",
        ".aac",
        ".aif",
        ".aiff",
        ".aifc",
        ".caf",
        ".au",
        ".snd",
    ]
)
LISTED = 5  # kinds of files, or links, that are named


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundClips:
    """clips: sorted by clip_id; remarks: what else was seen; problems: rows that could not be used."""

    clips: list[Clip]
    remarks: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


def clips_of_folder(folder: Path, *, relative_to: Path | None = None, unlabelled: bool = False) -> list[Clip]:
    """One clip an audio file, labelled with the name of the folder it lies in.

    Folders of BirdNET-Analyzer are understood: `A_a,B_b` has both classes, `-A_a` lacks this one. `Background`, `Other`
    and the like are kept as they are: a join takes them for none of its classes, unless its class list has them.

    Args:
      folder: searched with all its subfolders; hidden files and folders are passed over.
      relative_to: what the paths are relative to; None is the folder itself. Its clip_ids always are.
      unlabelled: leave every clip not annotated. Files that lie in `folder` itself always are.
    Returns: clips sorted by clip_id, which is the path in Unicode NFC.
    Raises: ManifestError: no such folder, no audio in it, two files whose names differ only in Unicode form, or a name
      that no manifest can hold, because it is not UTF-8 or has control characters.
    """
    if not folder.is_dir():
        raise ManifestError(f"'{folder}': no such folder; expected a folder with recordings")
    prefix = Path() if relative_to is None else folder.resolve().relative_to(relative_to.resolve())
    clips: dict[str, Clip] = {}
    for path in _audio_files(folder):
        clip_id = unicodedata.normalize("NFC", path.as_posix())
        if clip_id in clips:
            raise ManifestError(f"'{folder}': two files are both called {clip_id!r}, in two Unicode forms; rename one")
        cell = LabelCell() if unlabelled or len(path.parts) == 1 else _cell_of(path.parent)
        where = (prefix / path).as_posix()
        clips[clip_id] = Clip(clip_id=clip_id, path=where, labels=cell.labels, absent=cell.absent)
    if not clips:
        raise ManifestError(f"'{folder}': no audio in it: expected files ending in {', '.join(sorted(AUDIO_SUFFIXES))}")
    return check_names_of([clips[clip_id] for clip_id in sorted(clips)], f"'{folder}'")


def with_digests(
    clips: Sequence[Clip], root: Path, *, jobs: int = -1, on_files: Callable[[int], None] = lambda files: None
) -> list[Clip]:
    """The clips with the sha256 of their files, each file read once.

    Args:
      root: what their paths are relative to.
      jobs: threads; -1 is one a core.
      on_files: called with the number of files just read.
    Raises: ManifestError: a file that is gone or may not be read. EnvironmentTrouble: the machine is at fault.
    """
    paths, digests = sorted({clip.path for clip in clips}), {}
    files = ((root / path,) for path in paths)
    for path, digest in zip(paths, in_threads(_digest, files, threads=joblib.effective_n_jobs(jobs)), strict=True):
        digests[path] = digest
        on_files(1)
    return [dataclasses.replace(clip, sha256=digests[clip.path]) for clip in clips]


def _digest(path: Path) -> str:
    try:
        return audio_sha256(path)
    except AudioError as e:
        raise ManifestError(f"'{path}': {e}; put it back, or take it away and run again") from e


def _audio_files(folder: Path) -> Iterator[Path]:
    for where, _, files in _walk(folder):
        yield from ((Path(where) / name).relative_to(folder) for name in files if _is_audio(name))


def _walk(folder: Path) -> Iterator[tuple[str, list[str], list[str]]]:
    """As `os.walk`, without what is hidden."""
    for where, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield where, folders, [name for name in files if not name.startswith(".")]


def _is_audio(name: str) -> bool:
    return Path(name).suffix.lower() in AUDIO_SUFFIXES


@functools.lru_cache(maxsize=10_000)  # once a folder
def _cell_of(folder: Path) -> LabelCell:
    """The class is the folder the file lies in; class names are kept as they are, matching comes with the join."""
    name = unicodedata.normalize("NFC", folder.name).strip()
    parts = [part.strip() for part in name.split(",")]
    if not all("_" in part for part in parts):  # Analyzer's classes are; else the comma is part of a name
        parts = [name]
    absent = [part.removeprefix(ABSENT).strip() for part in parts if part.startswith(ABSENT)]
    labels = [part for part in parts if not part.startswith(ABSENT)]
    try:
        check_names([*labels, *absent])
        if len({*labels, *absent}) < len(parts):
            raise CellFault(f"expected each class once, got {name!r}")
    except CellFault as e:
        raise ManifestError(f"folder '{folder}': {e}; rename it") from e
    if labels == [NOISE]:
        return LabelCell(())
    return LabelCell(tuple(labels) if labels else None, (), tuple(absent))


def left_out(folder: Path) -> tuple[str, ...]:
    """What a scan of a folder passes over: files that are no audio by their ending, and links to folders."""
    endings, links = Counter[str](), []
    for where, folders, files in _walk(folder):
        endings.update(Path(name).suffix.lower() or "no ending" for name in files if not _is_audio(name))
        links += [(Path(where) / name).relative_to(folder) for name in folders if os.path.islink(Path(where) / name)]
    remarks = []
    if endings:
        most = sorted(endings.items(), key=lambda found: (-found[1], found[0]))[:LISTED]
        kinds = [f"{count:,} {ending}" for ending, count in most]
        more = f" and {len(endings) - LISTED} more endings" if len(endings) > LISTED else ""
        remarks.append(f"left out, no audio by their ending: {', '.join(kinds)}{more}")
    if links:
        named = ", ".join(f"'{link}'" for link in sorted(links)[:LISTED]) + (", ..." if len(links) > LISTED else "")
        remarks.append(f"left out, links to folders ({len(links):,}): {named}; name the folder they lead to instead")
    return tuple(remarks)


def folder_remarks(clips: Sequence[Clip]) -> tuple[str, ...]:
    """What was understood of folder names that are not simply a class."""
    absent = [clip.absent for clip in clips if clip.absent]
    several = [clip.labels for clip in clips if len(clip.labels or ()) > 1]
    words = {name: 0 for clip in clips for name in clip.labels or () if name.casefold() in BACKGROUND}
    for clip in clips:
        for name in words.keys() & (clip.labels or ()):
            words[name] += 1
    remarks = [
        f"folder {name!r}: {count:,} clips with none of the classes, unless the class list of a join has {name!r}"
        for name, count in sorted(words.items())
    ]
    if absent:
        remarks.append(
            f"folders '-Name': {len(absent):,} clips without that class, nothing said of others: {absent[0][0]!r}"
        )
    if several:
        remarks.append(f"folders 'A_a,B_b': {len(several):,} clips with several classes: {'; '.join(several[0] or ())}")
    return tuple(remarks)
