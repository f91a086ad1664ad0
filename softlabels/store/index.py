"""What a store has planned and labelled, from plan and receipts alone: a Census, or window by window a StoreIndex."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from softlabels.errors import StoreError
from softlabels.platforms import memory_of_machine
from softlabels.ragged import places_by_value, ranges
from softlabels.records.plan_file import SCHEMA, times_of
from softlabels.records.quarantine import Quarantined
from softlabels.records.receipts import ReceiptHead
from softlabels.windows import WindowSpec

LABELLED, QUARANTINED, MISSING = 0, 1, 2
BYTES_A_WINDOW = 25  # of an index


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Census:
    """How much of a store is labelled; made from stretches, so that a billion windows cost no more than their clips.

    clips: one row a clip, the columns of the plan: its first stretch as last planned.
    windows: planned; labelled, quarantined, missing: of them (missing: the shard is not committed).
    quarantine: the quarantined stretches, in plan order.
    """

    clips: pa.Table
    windows: int
    labelled: int
    quarantined: int
    missing: int
    quarantine: tuple[Quarantined, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StoreIndex:
    """One entry a planned window, in plan order; the windows of a clip lie together, in order.

    clips: as in `Census`.
    stored_clip: (windows,) int32 row in clips; window_index: (windows,) int32; state: (windows,) uint8, LABELLED,
    QUARANTINED or MISSING (its shard is not committed); shard, row: (windows,) int32, where a labelled window's
    row is; start: (windows,) int64, its first sample in the file, at the teacher's rate. That is 25 bytes a window.
    """

    clips: pa.Table
    window: WindowSpec
    stored_clip: np.ndarray
    window_index: np.ndarray
    state: np.ndarray
    shard: np.ndarray
    row: np.ndarray
    start: np.ndarray

    def __len__(self) -> int:
        return len(self.stored_clip)

    def start_s(self, entries: np.ndarray | slice | int = slice(None)) -> np.ndarray:
        """Where windows begin in their files, in seconds: for people, never to count with."""
        return self.start[entries] / self.window.rate_hz

    def times(self, entries: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What a shard has to say of its windows: start_s, end_s and pad_fraction, (n,) each; see `times_of`.

        entries: (n,) ascending, of one shard, so that they are of clips that lie together.
        """
        clip = self.stored_clip[entries]
        clips = self.clips.slice(clip[0], clip[-1] + 1 - clip[0]) if len(clip) else self.clips.slice(0, 1)
        end = self.window.starts(clips["end"].to_numpy(), clips["rate_hz"].to_numpy(), 0)  # (clips,)
        return times_of(self.start[entries], end[clip - clip[:1]], self.window)

    def by_shard(self) -> tuple[list[int], list[np.ndarray]]:
        """The shards with labelled windows, and the entries of each in the order of its rows."""
        labelled = np.flatnonzero(self.state == LABELLED)
        shards, places = places_by_value(self.shard[labelled])
        return shards.tolist(), [labelled[each] for each in places]

    def spans_of(self, clip_ids: Sequence[str]) -> np.ndarray:
        """(clip_ids, 2) int64: the first entry of each clip and the one after its last; 0, 0 if never planned.

        Looks all of them up at once: ask for many together.
        """
        position = positions_of(clip_ids, self.clips)
        ends = np.array([position, position + 1], np.int32).T  # (clip_ids, 2); -1 and 0 are found at 0
        return np.searchsorted(self.stored_clip, ends)


def positions_of(clip_ids: Sequence[str], clips: pa.Table) -> np.ndarray:
    """(clip_ids,) int64 rows of the clips in `StoreIndex.clips`, -1 for those it does not have."""
    try:
        wanted = pa.array(clip_ids, pa.string())
    except pa.ArrowException as e:
        raise ValueError(f"clip_ids: expected text, as in the manifest: {e}") from e
    asked = np.flatnonzero(pc.is_in(clips["clip_id"], value_set=wanted))  # cheaper than a table of a million clips
    found = pc.fill_null(pc.index_in(wanted, value_set=clips["clip_id"].take(asked)), -1).to_numpy()
    return np.append(asked, -1)[found]


def window_numbers(window_index: Sequence[int]) -> np.ndarray:
    """(keys,) int64. Raises: ValueError: one of them is a time, or anything else but an integer."""
    strange = [n for n in window_index if not isinstance(n, int | np.integer)]
    if strange:
        raise ValueError(
            f"keys: expected (clip_id, window_index) with a whole number as window_index, got {strange[0]!r}; a time "
            "is no key: floor(seconds / hop_s) is the window that starts at or before it"
        )
    return np.array(window_index, np.int64)


def take_census(plans: Sequence[pa.Table], receipts: Mapping[int, ReceiptHead]) -> Census:
    """Count the windows of all plans; a clip planned again counts only as last planned."""
    stretches, clip_of, clips = _current_stretches(plans)
    windows, shard_of = _integers(stretches, "windows"), _integers(stretches, "shard").astype(np.int32)
    planned, committed = int(windows.sum()), int(windows[np.isin(shard_of, list(receipts))].sum())
    quarantine, _ = _current_quarantine(receipts, clips, clip_of, shard_of)
    quarantined = sum(entry.windows for entry in quarantine)
    return Census(
        clips=clips,
        windows=planned,
        labelled=committed - quarantined,
        quarantined=quarantined,
        missing=planned - committed,
        quarantine=quarantine,
    )


def build_index(plans: Sequence[pa.Table], receipts: Mapping[int, ReceiptHead], window: WindowSpec) -> StoreIndex:
    """Lay out the windows of all plans; a clip planned again counts only as last planned."""
    stretches, clip_of, clips = _current_stretches(plans)
    windows, shard_of = _integers(stretches, "windows"), _integers(stretches, "shard").astype(np.int32)
    _check_memory(int(windows.sum()))
    committed = np.isin(shard_of, list(receipts))  # (stretches,)
    clip, shard = np.repeat(clip_of, windows), np.repeat(shard_of, windows)  # (windows,) each
    window_index = ranges(_integers(stretches, "first_window"), windows, np.int32)
    readable_hz = np.where(pc.equal(stretches["reason"], "").to_numpy(), _integers(stretches, "rate_hz"), 0)
    start = np.repeat(window.starts(_integers(stretches, "start"), readable_hz, 0), windows)
    start += window_index * np.int64(window.hop_samples)

    state = np.repeat(np.where(committed, LABELLED, MISSING).astype(np.uint8), windows)
    quarantine, position = _current_quarantine(receipts, clips, clip_of, shard_of)
    spans = np.searchsorted(clip, np.array([position, position + 1], np.int32).T)  # (quarantine, 2)
    for entry, (first, stop) in zip(quarantine, spans.tolist(), strict=True):
        if entry.first_window + entry.windows > stop - first:
            raise StoreError(
                f"a receipt quarantines windows {entry.first_window} to {entry.first_window + entry.windows - 1} of "
                f"clip {entry.clip_id!r}, which has {stop - first}; it was edited: restore it from a copy"
            )
        state[first + entry.first_window : first + entry.first_window + entry.windows] = QUARANTINED
    return StoreIndex(
        clips=clips,
        window=window,
        stored_clip=clip,
        window_index=window_index,
        state=state,
        shard=shard,
        row=_row_in_shard(shard, state == LABELLED),
        start=start,
    )


def _check_memory(windows: int) -> None:
    """Raises: StoreError: no machine like this one can hold the index; of a plan that was made up, most likely."""
    needed, there = windows * BYTES_A_WINDOW, memory_of_machine()
    if needed > there > 0:
        raise StoreError(
            f"its plans have {windows:,} windows, whose index takes {needed >> 30:,} GB; this machine has "
            f"{there >> 30:,} GB of memory"
        )


def _current_stretches(plans: Sequence[pa.Table]) -> tuple[pa.Table, np.ndarray, pa.Table]:
    """The rows of all plans that no later plan replaces, the clip of each (rows,) int32, and the clips' first rows."""
    table = pa.concat_tables(plans or [SCHEMA.empty_table()])
    clip = table["clip_id"].combine_chunks().dictionary_encode().indices.to_numpy()  # (rows,) the same for the same id
    last_plan = np.zeros(len(table), np.int32)
    row = 0
    for number, plan in enumerate(plans):
        last_plan[clip[row : row + len(plan)]] = number
        row += len(plan)
    counts = last_plan[clip] == np.repeat(np.arange(len(plans)), [len(plan) for plan in plans])
    table, clip = _filtered(table, counts), clip[counts]
    clip = np.cumsum(np.diff(clip, prepend=-1) != 0, dtype=np.int32) - np.int32(1)  # a clip's rows are together
    first = np.diff(clip, prepend=-1) > 0
    return table, clip, _filtered(table, first).combine_chunks()  # callers take rows out of it all the time


def _filtered(table: pa.Table, keep: np.ndarray) -> pa.Table:
    """The rows to keep; mostly that is all of them, and a table of a million clips is not copied for nothing."""
    return table if keep.all() else table.filter(pa.array(keep))


def _current_quarantine(
    receipts: Mapping[int, ReceiptHead], clips: pa.Table, clip_of: np.ndarray, shard_of: np.ndarray
) -> tuple[tuple[Quarantined, ...], np.ndarray]:
    """The quarantined stretches of clips that are planned in the shard that says so, and the rows of these clips."""
    entries = [(shard, entry) for shard, receipt in sorted(receipts.items()) for entry in receipt.quarantined]
    position = positions_of([entry.clip_id for _, entry in entries], clips)
    shard = np.array([shard for shard, _ in entries], np.int64)
    many = 1 + max(receipts, default=0)  # clip and shard as one number
    counts = (position >= 0) & np.isin(position * many + shard, clip_of.astype(np.int64) * many + shard_of)
    return tuple(entry for (_, entry), good in zip(entries, counts, strict=True) if good), position[counts]


def _integers(table: pa.Table, name: str) -> np.ndarray:
    """(rows,) int64."""
    return table[name].to_numpy()


def _row_in_shard(shard: np.ndarray, labelled: np.ndarray) -> np.ndarray:
    """How many labelled windows of the same shard come before each one, (windows,) int32; shards ascend."""
    before = np.cumsum(labelled, dtype=np.int32) - labelled
    first = np.flatnonzero(np.diff(shard, prepend=-1))
    return (before - np.repeat(before[first], np.diff(first, append=len(shard)))).astype(np.int32)
