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
    below, outside = [], []
    for clip in clips:
        if "://" not in clip.path:
            below.append(clip)
        elif start and clip.path.startswith(start) and without_secrets(clip.path) == clip.path:
            below.append(dataclasses.replace(clip, path=clip.path.removeprefix(start)))
        else:
            outside.append(f"{clip.clip_id!r} at '{without_secrets(clip.path)}'")
    if outside:
        raise ManifestError(
            f"the manifest: {len(outside)} paths are URLs that do not lie below the audio root '{root}': "
            f"{', '.join(outside[:10])}; name the folder of the recordings with --root, without query strings in the "
            "paths"
        )
    return below
