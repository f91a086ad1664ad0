"""From a folder of recordings to a manifest: one folder a class, as most collections are kept."""

import dataclasses
import functools
import os
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import joblib

from softlabels.audio.decode import audio_sha256
from softlabels.corpus.label_cell import ABSENT, BACKGROUND, NOISE, LabelCell, check_names
from softlabels.corpus.manifest import Clip
from softlabels.corpus.name_lists import CellFault
from softlabels.errors import AudioError, EnvironmentTrouble, ManifestError
from softlabels.os_errors import is_store_trouble
from softlabels.texts import MAX_PATH, fault_of_name
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
LISTED = 5  # kinds of files, files or links that are named
_CLOSED = "folders that nobody may look into"
_NO_MANIFEST = "files whose name no manifest can hold, because it is not UTF-8 or has control characters"
_TWICE = "files that are called as another one, in other Unicode characters (NFC, NFD)"
_DO = "mend this (rename them, or give the right to read), then `softlabels manifest DIR --update`"


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundClips:
    """clips: sorted by clip_id; remarks: what else was seen; problems: files or rows that could not be used."""

    clips: list[Clip]
    remarks: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


def root_of(folder: Path, manifest: Path) -> Path:
    """What paths are relative to: the manifest's folder where the audio lies below it, else the audio's."""
    beside = Path(os.path.realpath(manifest)).parent  # `resolve` would fail of a link that leads to itself
    return beside if folder.resolve().is_relative_to(beside) else folder


def clips_of_folder(folder: Path, *, relative_to: Path | None = None, unlabelled: bool = False) -> FoundClips:
    """One clip an audio file, labelled with the name of the folder it lies in.

    Folders of BirdNET-Analyzer are understood: `A_a,B_b` has both classes, `-A_a` lacks this one. `Background`, `Other`
    and the like are kept as they are: a join takes them for none of its classes, unless its class list has them.
    Left out, and told as problems: files whose name no manifest can hold, or differs from another's in Unicode form
    only, and folders that cannot be looked into.

    Args:
      folder: searched with all its subfolders; hidden files and folders are passed over.
      relative_to: what the paths are relative to; None is the folder itself. Its clip_ids always are.
      unlabelled: leave every clip not annotated. Files that lie in `folder` itself always are.
    Returns: clips sorted by clip_id, which is the path in Unicode NFC; with remarks on folders and what is no audio.
    Raises: ManifestError: no such folder, no audio in it, or a folder that could be no class. EnvironmentTrouble: it
      cannot be read now.
    """
    if not folder.is_dir():
        raise ManifestError(f"'{folder}': no such folder; expected a folder with recordings")
    prefix = Path() if relative_to is None else folder.resolve().relative_to(relative_to.resolve())
    scan = _scan(folder)
    clips: dict[str, Clip] = {}
    left_out: dict[str, list[str]] = {_CLOSED: scan.closed, _NO_MANIFEST: [], _TWICE: []}
    for path in scan.audio:
        clip_id, place = unicodedata.normalize("NFC", path), (prefix / path).as_posix()
        if clip_id in clips or fault_of_name(place, most=MAX_PATH):
            left_out[_TWICE if clip_id in clips else _NO_MANIFEST].append(path)
            continue
        inside = PurePosixPath(path).parent
        cell = LabelCell() if unlabelled or not inside.name else _cell_of(inside)
        clips[clip_id] = Clip(clip_id=clip_id, path=place, labels=cell.labels, absent=cell.absent)
    problems = tuple(
        f"left out of '{folder}', {len(paths):,} {why}: {_some(paths)}; {_DO}"
        for why, paths in left_out.items()
        if paths
    )
    if not clips:
        endings = f"expected files ending in {', '.join(sorted(AUDIO_SUFFIXES))}"
        raise ManifestError(f"'{folder}': no audio in it: {'; '.join(problems) or endings}")
    found = [clips[clip_id] for clip_id in sorted(clips)]
    return FoundClips(clips=found, remarks=(*_folder_remarks(found), *_left_out(scan)), problems=problems)


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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scan:
    """Paths below a folder: audio, links to folders and closed folders; and how many files end otherwise."""

    audio: list[str]
    links: list[str]
    closed: list[str]
    endings: Counter[str]


def _scan(folder: Path) -> _Scan:
    """Look through a folder, without what is hidden. Raises: EnvironmentTrouble: a part of it cannot be read now."""
    scan = _Scan(audio=[], links=[], closed=[], endings=Counter())

    def on_error(e: OSError) -> None:
        if is_store_trouble(e):
            raise EnvironmentTrouble(
                f"'{e.filename}': {e.strerror}; nothing is written; try again once it is there"
            ) from e
        scan.closed.append(os.path.relpath(e.filename, folder))

    for where, folders, files in os.walk(folder, onerror=on_error):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        below = PurePosixPath(os.path.relpath(where, folder))
        scan.links.extend(str(below / name) for name in folders if os.path.islink(os.path.join(where, name)))
        for name in files:
            suffix = Path(name.rstrip()).suffix.lower()
            if not name.startswith(".") and suffix in AUDIO_SUFFIXES:
                scan.audio.append(str(below / name))
            elif not name.startswith("."):
                scan.endings[suffix or "no ending"] += 1
    scan.audio.sort(key=lambda path: (not unicodedata.is_normalized("NFC", path), path))  # of two forms, NFC stays
    return scan


@functools.lru_cache(maxsize=10_000)  # once a folder
def _cell_of(folder: PurePosixPath) -> LabelCell:
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


def _left_out(scan: _Scan) -> Iterator[str]:
    """What a scan passes over: files that are no audio by their ending, and links to folders."""
    if scan.endings:
        most = sorted(scan.endings.items(), key=lambda found: (-found[1], found[0]))[:LISTED]
        kinds = [f"{count:,} {ending}" for ending, count in most]
        more = f" and {len(scan.endings) - LISTED} more endings" if len(scan.endings) > LISTED else ""
        yield f"left out, no audio by their ending: {', '.join(kinds)}{more}"
    if scan.links:
        what = f"left out, links to folders ({len(scan.links):,}): {_some(scan.links)}"
        yield f"{what}; name the folder they lead to instead"


def _some(paths: Sequence[str]) -> str:
    return ", ".join(f"'{path}'" for path in paths[:LISTED]) + (", ..." if len(paths) > LISTED else "")


def _folder_remarks(clips: Sequence[Clip]) -> Iterator[str]:
    """What was understood of folder names that are not simply a class."""
    absent = [clip.absent for clip in clips if clip.absent]
    several = [clip.labels for clip in clips if len(clip.labels or ()) > 1]
    words = Counter(name for clip in clips for name in clip.labels or () if name.casefold() in BACKGROUND)
    for name, count in sorted(words.items()):
        yield f"folder {name!r}: {count:,} clips with none of the classes, unless the class list of a join has {name!r}"
    if absent:
        yield f"folders '-Name': {len(absent):,} clips without that class, nothing said of others: {absent[0][0]!r}"
    if several:
        yield f"folders 'A_a,B_b': {len(several):,} clips with several classes: {'; '.join(several[0] or ())}"
