"""The plan file: which stretch of which clip goes into which shard, as one row each.

A clip longer than a shard has several rows. `reason` is empty, or says why the clip can only be
quarantined; such a clip is planned as one window. A later plan file may plan it again, once it can be read.
"""

import dataclasses
import io
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from softlabels.windows import rescale_samples


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedClip:
    """Windows `first_window` to `first_window + windows - 1` of one clip, as part of one shard.

    start, end: the clip in samples of the file's own rate; frames, rate_hz, channels, container, size
    (bytes) and sha256 are the file's, as probed.
    """

    shard: int
    clip_id: str
    first_window: int
    windows: int
    path: str
    start: int = 0
    end: int = 0
    frames: int = 0
    rate_hz: int = 0
    channels: int = 0
    container: str = ""
    size: int = 0
    sha256: str = ""
    reason: str = ""
    detail: str = ""

    def span(self, to_hz: int) -> tuple[int, int]:
        """The clip's first sample and the one behind its last, in samples at `to_hz` from the file's start."""
        start, end = (rescale_samples(n, from_hz=self.rate_hz, to_hz=to_hz) for n in (self.start, self.end))
        return start, end


def stretch(start_s: Any, end_s: Any, frames: Any, rate_hz: Any) -> tuple[np.ndarray, np.ndarray]:
    """Where clips lie in their files: first sample and the one behind the last, (clips,) int64 each.

    Args:
      start_s, end_s: (clips,) seconds as in the manifest; NaN as end_s is the end of the file.
      frames, rate_hz: (clips,) of the files. An end beyond the file is its end.
    """
    start_s, end_s, rate_hz = (np.asarray(values, np.float64) for values in (start_s, end_s, rate_hz))
    whole = np.isnan(end_s)
    end = np.where(whole, frames, np.minimum(np.rint(np.where(whole, 0, end_s) * rate_hz), frames))
    return np.rint(start_s * rate_hz).astype(np.int64), end.astype(np.int64)


_TYPES = {int: pa.int64(), str: pa.string()}
SCHEMA = pa.schema([pa.field(f.name, _TYPES[f.type], nullable=False) for f in dataclasses.fields(PlannedClip)])


def plan_table(rows: Iterable[PlannedClip]) -> pa.Table:
    """Planned clips as a table, one column a field."""
    rows = list(rows)
    columns = [pa.array([getattr(row, field.name) for row in rows], field.type) for field in SCHEMA]
    return pa.Table.from_arrays(columns, schema=SCHEMA)


def planned_clips(table: pa.Table) -> list[PlannedClip]:
    """The rows of a plan table as objects."""
    return [PlannedClip(**row) for row in table.to_pylist()]


def encode_plan(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table.combine_chunks(), sink, compression="zstd", write_page_checksum=True)
    return sink.getvalue()


def decode_plan(data: bytes) -> pa.Table:
    table = pq.read_table(io.BytesIO(data), page_checksum_verification=True).cast(SCHEMA)
    return table.combine_chunks()  # in one piece, which the index need not copy
