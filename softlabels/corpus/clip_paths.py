"""Where the clips of a manifest are, below the audio root."""

import dataclasses
from pathlib import Path

from softlabels.corpus.manifest import Clip, read_manifest
from softlabels.errors import ManifestError
from softlabels.storage.location import Location, without_secrets


def read_clips_below(manifest: str | Path, root: Location) -> list[Clip]:
    """The clips of a manifest, with paths relative to the audio root; see `read_manifest` and `below_root`."""
    return below_root(read_manifest(manifest), root)


def below_root(clips: list[Clip], root: Location) -> list[Clip]:
    """Clips with paths relative to the audio root; those whose path is a URL below it lose the root's part.

    Raises: ManifestError: a URL that is not below it.
    """
    start = f"{root}/" if isinstance(root, str) else None
    relative = [_below(clip, start) for clip in clips]
    outside = [clip for clip, found in zip(clips, relative, strict=True) if found is None]
    if outside:
        shown = ", ".join(f"{clip.clip_id!r} at '{without_secrets(clip.path)}'" for clip in outside[:10])
        raise ManifestError(
            f"the manifest: {len(outside)} paths are URLs that do not lie below the audio root '{root}': {shown}; "
            "name the folder of the recordings with --root, without query strings in the paths"
        )
    return [clip for clip in relative if clip is not None]


def _below(clip: Clip, start: str | None) -> Clip | None:
    if "://" not in clip.path:
        return clip
    if start is None or not clip.path.startswith(start) or without_secrets(clip.path) != clip.path:
        return None
    return dataclasses.replace(clip, path=clip.path.removeprefix(start))
