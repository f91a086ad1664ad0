"""From Raven selection tables to a manifest: what was boxed in a recording is its label.

The boxes themselves are not in the manifest: `store.join(..., annotations=TABLES)` lays them over the windows.
"""

import dataclasses
import functools
import logging
from pathlib import Path

from pipeline.drafts.folder import FoundClips, clips_of_folder
from softlabels.audio.decode import probe_audio
from softlabels.corpus.annotation_tables import read_annotations
from softlabels.errors import SoftLabelsError

logger = logging.getLogger(__name__)


def clips_of_tables(
    tables: str | Path, folder: Path, *, relative_to: Path | None = None, label_column: str | None = None
) -> FoundClips:
    """One clip an audio file. With a table: labelled with all it names, or as none of the classes if it is empty.

    Args:
      tables: a Raven table or a pattern such as "tables/*.txt"; see `read_annotations` for how they find their files.
      folder, relative_to: as in `clips_of_folder`; files without a table are not annotated.
      label_column: of the tables; None is Species, Annotation, Label or another usual one.
    Raises: ManifestError: as `clips_of_folder` and `read_annotations`; or a label that no manifest can hold.
    """
    scanned = clips_of_folder(folder, relative_to=relative_to, unlabelled=True)
    root = relative_to or folder

    def duration_of(path: str) -> float | None:
        try:
            info = probe_audio(root / path)
        except SoftLabelsError:
            return None
        return info.frames / info.rate_hz

    found = read_annotations(
        tables, scanned.clips, extents="clips", label_column=label_column, duration_of=functools.cache(duration_of)
    )
    for note in found.notes:
        logger.warning(note)
    names: dict[int, set[str]] = {clip: set() for clip in found.listed_clips.tolist()}
    for clip, name in found.boxes[["clip", "name"]].tolist():
        names[clip].add(name)
    clips = [
        dataclasses.replace(clip, labels=tuple(sorted(names[i]))) if i in names else clip
        for i, clip in enumerate(scanned.clips)
    ]
    return FoundClips(clips=clips, problems=scanned.problems)
