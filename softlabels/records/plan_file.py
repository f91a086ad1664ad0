"""The plan file: which stretch of which clip goes into which shard, as one row each.

A clip longer than a shard has several rows. `reason` is empty, or says why the clip can only be
quarantined; such a clip is planned as one window. A later plan file may plan it again, once it can be read.
"""

import io
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, get_type_hints

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
        """The clip's first sample and the one after its last, in samples at `to_hz` from the file's start."""
        start, end = (rescale_samples(n, from_hz=self.rate_hz, to_hz=to_hz) for n in (self.start, self.end))
        return start, end


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ClipIdentity:
    """What makes a clip the one it is, of one clip or of many: first sample and the one after the last, at the file's
    own rate, and the digest of the file; "" is not known. A `PlannedClip` has them too."""

    start: Any
    end: Any
    sha256: Any

    @classmethod
    def of_table(cls, table: pa.Table) -> "ClipIdentity":
        """(rows,) of a table with the columns of a plan."""
        return cls(**{name: table[name].to_numpy() for name in ("start", "end", "sha256")})


def clip_differences(a: "ClipIdentity | PlannedClip", b: "ClipIdentity | PlannedClip") -> dict[str, Any]:
    """What tells two clips (or the clips of two tables, one by one) apart: name -> whether it does."""
    known = (a.sha256 != "") & (b.sha256 != "")
    return {"start_s or end_s": (a.start != b.start) | (a.end != b.end), "sha256": known & (a.sha256 != b.sha256)}


def same_clip(a: "ClipIdentity | PlannedClip", b: "ClipIdentity | PlannedClip") -> Any:
    """Whether a clip is still the same: the same stretch of the same audio. Of tables, (rows,) bool."""
    stretch, audio = clip_differences(a, b).values()
    return np.logical_not(stretch | audio)


SCHEMA = pa.schema(
    [
        pa.field(name, pa.int64() if type_ is int else pa.string(), nullable=False)
        for name, type_ in get_type_hints(PlannedClip).items()
    ]
)


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
    file = pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True)
    # Without threads: pyarrow 26 aborts a process (exit code 134) that ends soon after its threads were started.
    return file.read(use_threads=False).cast(SCHEMA).combine_chunks()  # in one piece, which the index need not copy
