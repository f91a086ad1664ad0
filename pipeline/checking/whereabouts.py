"""Where the audio of a store is when it is scored again: by a manifest, by its digest, and last as it was planned."""

import dataclasses
import os
import stat
from collections.abc import Iterable, Iterator, Mapping, Set
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from softlabels.audio.decode import audio_sha256
from softlabels.audio.lost import hint
from softlabels.audio.root import local_file
from softlabels.corpus.manifest import Clip
from softlabels.errors import AudioError, StoreError
from softlabels.records.plan_file import PlannedClip
from softlabels.storage.location import Location
from softlabels.threads import in_threads

SEARCHED_BYTES = 16 << 30  # digested at most in search of files that nothing says the path of: half a minute
NEXT = "--manifest names the file that has the paths of now, --root the folder that they are relative to"
_SHOWN = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Whereabouts:
    """paths: clip_id -> path below the root. lost: clip_id -> that there is no file, and what is there instead;
    others: clip_id -> that its file is another one now."""

    paths: Mapping[str, str]
    lost: Mapping[str, str] = field(default_factory=dict)
    others: Mapping[str, str] = field(default_factory=dict)

    def now(self, clips: Iterable[PlannedClip]) -> list[PlannedClip]:
        """Planned clips with the paths of now."""
        return [dataclasses.replace(clip, path=self.paths.get(clip.clip_id, clip.path)) for clip in clips]


def find_files(
    clips: Iterable[PlannedClip], manifest: Iterable[Clip], root: Location, *, needed: Set[str]
) -> Whereabouts:
    """Find the recordings of planned clips, each of which has the digest of the plan.

    Where the manifest has a clip, its file there counts, and is another one if its digest is. Where it has not, or
    there is no file, any other with the digest does: one of the manifest's, or of the folder. Buckets are not searched.

    Args:
      clips: as planned; those that were planned with a reason have no file.
      manifest: of now; none is as good as one that has none of the clips.
      needed: the clips that the store has labels of.
    Raises: StoreError: none of the needed ones is there. EnvironmentTrouble: a file is out of reach.
    """
    wanted = {clip.clip_id: clip for clip in clips if not clip.reason}
    listed = {clip.clip_id: clip.path for clip in manifest if clip.clip_id in wanted}
    by_digest = {clip.sha256: clip.path for clip in manifest if clip.sha256}
    paths = {id_: listed.get(id_) or by_digest.get(clip.sha256) or clip.path for id_, clip in wanted.items()}
    if not isinstance(root, Path):
        return Whereabouts(paths=paths)
    digests = dict(in_threads(_digested, ((root, path) for path in sorted(set(paths.values())))))
    astray = {id_: clip for id_, clip in wanted.items() if digests[paths[id_]] != clip.sha256}
    found = _search(root, list(astray.values()), digests) if astray else {}
    lost, others = {}, {}
    for id_, clip in astray.items():
        there, elsewhere = digests[paths[id_]], found.get(clip.sha256, "")
        if elsewhere and not (there and id_ in listed):
            paths[id_] = elsewhere
        elif there:
            others[id_] = (
                f"clip {id_!r}: '{paths[id_]}' is not the file that was labelled"
                f"{f', which is now {elsewhere!r}' * bool(elsewhere)}: put it back, or correct the path in the manifest"
            )
        elif id_ in needed:
            lost[id_] = f"clip {id_!r}: no file at '{paths[id_]}' below '{root}'{hint(root, paths[id_])}"
    if lost and len(lost) == len(needed & wanted.keys()):
        raise StoreError(
            f"none of the {len(lost):,} recordings that were asked for is there, such as "
            f"{some_of(lost, lost)}: is --root right? {NEXT}"
        )
    return Whereabouts(paths=paths, lost=lost, others=others)


def some_of(texts: Mapping[str, str], clip_ids: Iterable[str]) -> str:
    """What is to be told of some clips, of the first ones; "" where that is nothing."""
    told = [texts[clip_id] for clip_id in clip_ids if clip_id in texts]
    return "; ".join(told[:_SHOWN]) + (f"; and {len(told) - _SHOWN} more" if len(told) > _SHOWN else "")


def _digested(root: Path, path: str) -> tuple[str, str]:
    """The path and sha256 of its file; "" where there is none, and "unreadable" of what is no file."""
    try:
        with local_file(root, path) as file:
            return path, audio_sha256(file)
    except AudioError as e:
        return path, "" if e.reason == "missing" else e.reason


def _search(root: Path, clips: list[PlannedClip], digests: Mapping[str, str]) -> dict[str, str]:
    """sha256 -> path of files with the bytes of some clips; digests: path -> sha256, of files that are known."""
    wanted, names = {clip.sha256 for clip in clips}, {PurePosixPath(clip.path).name for clip in clips}
    found = {sha256: path for path, sha256 in digests.items() if sha256 in wanted}
    if len(found) == len(wanted):
        return found
    sizes = {clip.size for clip in clips}
    alike = [(path, size) for path, size in _files(root) if size in sizes and path not in digests]
    alike.sort(key=lambda each: (PurePosixPath(each[0]).name not in names, each[0]))  # most keep their name
    left = SEARCHED_BYTES
    for path, size in alike:
        left -= size
        if left < 0 or len(found) == len(wanted):
            break
        _, sha256 = _digested(root, path)
        if sha256 in wanted:
            found.setdefault(sha256, path)
    return found


def _files(root: Path) -> Iterator[tuple[str, int]]:
    """Path and bytes of every regular file below a folder, and of those that links there lead to."""
    for folder, _, names in os.walk(root):
        for name in names:
            path = os.path.join(folder, name)
            with suppress(OSError):
                state = os.stat(path)
                if stat.S_ISREG(state.st_mode):
                    yield os.path.relpath(path, root).replace(os.sep, "/"), state.st_size
