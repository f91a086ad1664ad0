"""The plan file: which stretch of which clip goes into which shard, as one row each.

A clip longer than a shard has several rows. `reason` is empty, or says why the clip can only be
quarantined; such a clip is planned as one window. A later plan file may plan it again, once it can be read.
"""

import io
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, get_type_hints

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from softlabels.errors import StoreError
from softlabels.records.parquet import read_parquet
from softlabels.records.quarantine import MOST_WINDOWS, REASONS
from softlabels.records.spec import MAX_RATE_HZ, MAX_SAMPLES, LabelSpec
from softlabels.windows import WindowSpec, rescale_samples

_FINGERPRINT = b"softlabels.fingerprint"  # in the footer: of the spec that the plan belongs to


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


LONGEST_PATH = 100_000  # characters: as long as a cell of a manifest may be
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


def plan_keys(keys: Iterable[str]) -> list[str]:
    """Those that are plan files', in the order of their numbers."""
    numbered = {int(found[1]): key for key in keys if (found := re.fullmatch(r"plan/([0-9]{4,9})\.parquet", key))}
    return [numbered[number] for number in sorted(numbered)]


def encode_plan(table: pa.Table, fingerprint: str = "") -> bytes:
    """The file. fingerprint: of the spec whose plan it is, to be named in its footer; "" names none."""
    named = table.replace_schema_metadata({_FINGERPRINT: fingerprint} if fingerprint else None)
    sink = io.BytesIO()
    pq.write_table(named.combine_chunks(), sink, compression="zstd", write_page_checksum=True)
    return sink.getvalue()


def decode_plan(data: bytes, fingerprint: str = "") -> pa.Table:
    """The plan in a file, in one piece, which the index need not copy.

    Args:
      fingerprint: of the spec it has to belong to; a plan of before names none, and "" does not ask.
    Raises: StoreError: damaged, no plan, one of another spec, or more than a file of its size can be.
    """

    def check(schema: pa.Schema) -> None:
        named = (schema.metadata or {}).get(_FINGERPRINT, b"").decode(errors="replace")
        if named and fingerprint and named != fingerprint:
            raise StoreError(f"the plan of another store: of spec {named[:64]!r}, expected {fingerprint!r}")
        if not schema.equals(SCHEMA):
            raise StoreError(f"expected the columns {SCHEMA}, got {schema.remove_metadata()}")

    texts = [field.name for field in SCHEMA if field.type == pa.string()]
    return (
        read_parquet(data, check, texts=texts, pages=True).cast(SCHEMA).replace_schema_metadata(None).combine_chunks()
    )


def check_plan(table: pa.Table, spec: LabelSpec, *, first_shard: int) -> None:
    """Hold every value of a plan against what planning can have written.

    Args:
      first_shard: the one after the last of the plans before.
    Raises: StoreError: which value of which row, and what was expected.
    """
    column = {field.name: table[field.name].to_numpy() for field in SCHEMA if field.type == pa.int64()}
    usable = pc.equal(table["reason"], "").to_numpy()  # of the others, only the clip_id is known for sure
    shard, windows, first = column["shard"], column["windows"], column["first_window"]
    same_clip = pc.equal(table["clip_id"][1:], table["clip_id"][:-1]).to_numpy()  # (rows - 1,)
    new_shard = np.diff(shard, prepend=first_shard - 1)
    follows = np.append(0, np.where(same_clip, first[:-1] + windows[:-1], 0)) if len(table) else first
    reasons = pc.is_in(table["reason"], value_set=pa.array(["", *REASONS])).to_numpy()
    digests = pc.match_substring_regex(table["sha256"], "^([0-9a-f]{64})?$").to_numpy()
    for name, good, expected in (
        ("shard", (new_shard == 1) | ((new_shard == 0) & (shard >= first_shard)), "the one before or the next"),
        ("windows", (windows > 0) & (windows <= spec.shard_windows), f"1 to {spec.shard_windows}"),
        ("first_window", first == follows, "0, or the one after the row before"),
        ("frames", ~usable | ((column["frames"] >= 0) & (column["frames"] <= MAX_SAMPLES)), f"0 to {MAX_SAMPLES}"),
        ("start", ~usable | ((column["start"] >= 0) & (column["start"] <= column["end"])), "0 to end"),
        ("end", ~usable | (column["end"] <= column["frames"]), "at most frames"),
        ("rate_hz", ~usable | ((column["rate_hz"] > 0) & (column["rate_hz"] <= MAX_RATE_HZ)), f"1 to {MAX_RATE_HZ}"),
        ("channels", ~usable | (column["channels"] > 0), "1 or more"),
        ("size", column["size"] >= 0, "0 or more"),
        ("path", pc.less_equal(pc.utf8_length(table["path"]), LONGEST_PATH).to_numpy(), "a path of any file"),
        ("clip_id", pc.not_equal(table["clip_id"], "").to_numpy(), "a name"),
        ("reason", reasons, "none, or one of the reasons for quarantine"),
        ("sha256", digests, "64 hexadecimal digits, or none"),
    ):
        if not good.all():
            row = int(np.argmin(good))
            raise StoreError(f"{name} of row {row}: expected {expected}, got {str(table[name][row])[:70]!r}")
    if len(table) and (int(windows.sum()) >= MOST_WINDOWS or int(shard[-1]) >= MOST_WINDOWS):
        raise StoreError(f"expected fewer than {MOST_WINDOWS:,} windows and shards")
    if len(table) and np.add.reduceat(windows, np.flatnonzero(new_shard)).max() > spec.shard_windows:
        raise StoreError(f"expected at most {spec.shard_windows} windows a shard")


def window_times(
    clips: Iterable[PlannedClip], window_index: np.ndarray, window: WindowSpec
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where windows lie in their files, as `times_of` gives it.

    Args:
      clips: the clip of each window; window_index: (windows,) int64.
    """
    spans = np.array([clip.span(window.rate_hz) for clip in clips], np.int64).reshape(-1, 2)
    return times_of(spans[:, 0] + window_index * window.hop_samples, spans[:, 1], window)


def times_of(start: np.ndarray, clip_end: np.ndarray, window: WindowSpec) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """start_s and end_s, (windows,) float64 each, and pad_fraction, float32, as a shard has them.

    Args:
      start, clip_end: (windows,) int64 samples at the teacher's rate, from the start of the file.
    """
    beyond = np.maximum(0, start + window.window_samples - clip_end)
    padding = (beyond / window.window_samples).astype(np.float32)
    return start / window.rate_hz, (start + window.window_samples) / window.rate_hz, padding
