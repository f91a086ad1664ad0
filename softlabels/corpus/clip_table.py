"""The clips of a join as a table on disk: what the manifest says of each, and its file as it was planned."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from softlabels.kept.kept_file import open_table

_COLUMNS = ("clip_id", "path", "split", "fold", "label", "start", "end", "frames", "rate_hz", "channels", "container")
_NUMBERS = ("start", "end", "frames", "rate_hz", "channels", "size", "windows")
_OUTSIDE = r"(^|/)\.\.(/|$)"  # a path that leaves the audio root
SCHEMA = pa.schema(
    (name, pa.int64() if name in _NUMBERS else pa.string())
    for name in (*_COLUMNS, "size", "sha256", "reason", "windows")
)
IN_TIME = pa.field("in_time", pa.bool_())  # whether people annotated a clip's windows


def open_clips(path: Path, *, in_time: bool = True) -> pa.Table:
    """Read the clips of a join; mapped where they are many.

    Args:
      in_time: whether the file says it of each clip; joins of version 2 do not, and then it is False.
    Raises: JoinError: damaged; EnvironmentTrouble: it cannot be read now; ValueError: values that no clip has.
    """
    clips = open_table(path, SCHEMA.append(IN_TIME) if in_time else SCHEMA)
    if not in_time:
        clips = clips.append_column(IN_TIME, pa.array(np.zeros(len(clips), bool)))
    wrong = [name for name in clips.column_names if name != "label" and clips[name].null_count]
    wrong += [name for name in _NUMBERS if (pc.min(clips[name]).as_py() or 0) < 0]
    if any(pc.any(found).as_py() for found in _suspects(clips["path"])):
        wrong.append("path")
    if wrong:
        raise ValueError(f"values that no clip has in {', '.join(wrong)} of '{path}'")
    return clips


def _suspects(paths: pa.ChunkedArray) -> Iterator[pa.ChunkedArray]:
    """Whether each path leaves the audio root; by the slow pattern only where some path has two dots."""
    yield pc.starts_with(paths, "/")
    if pc.any(pc.match_substring(paths, "..")).as_py():
        yield pc.match_substring_regex(paths, _OUTSIDE)
