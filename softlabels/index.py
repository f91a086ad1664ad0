"""StoreIndex: every planned window of a store and where its label is, from plan and receipts alone."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from softlabels.planned import PlannedClip, planned_clips
from softlabels.quarantine import Quarantined
from softlabels.receipts import Receipt
from softlabels.windows import WindowSpec

LABELLED, QUARANTINED, MISSING = 0, 1, 2


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreIndex:
    """One entry a planned window, in plan order; the windows of a clip stand together, in order.

    clip_ids: (clips,) str objects; clip: (windows,) int32 position in clip_ids; window_index: (windows,)
    int32; state: (windows,) uint8, LABELLED, QUARANTINED or MISSING (its shard is not committed);
    shard, row: (windows,) int32, where a labelled window's row is; start_s: (windows,) float64 in the file.
    quarantine: the quarantined stretches, in plan order.
    """

    clip_ids: np.ndarray
    clip: np.ndarray
    window_index: np.ndarray
    state: np.ndarray
    shard: np.ndarray
    row: np.ndarray
    start_s: np.ndarray
    quarantine: tuple[Quarantined, ...]

    def __len__(self) -> int:
        return len(self.clip)

    def count(self, state: int) -> int:
        return int(np.count_nonzero(self.state == state))

    def spans(self) -> dict[str, tuple[int, int]]:
        """clip_id -> (first entry, entry behind the last)."""
        first = np.searchsorted(self.clip, np.arange(len(self.clip_ids) + 1))
        return {clip_id: (int(first[i]), int(first[i + 1])) for i, clip_id in enumerate(self.clip_ids)}


def build_index(plans: list[pa.Table], receipts: dict[int, Receipt], window: WindowSpec) -> StoreIndex:
    """Lay out the windows of all plans; a clip planned again counts only as last planned."""
    slices = _standing_slices(plans)
    windows = np.array([s.windows for s in slices], np.int64)
    shard = np.repeat(np.array([s.shard for s in slices], np.int32), windows)
    offset = np.arange(len(shard)) - np.repeat(np.cumsum(windows) - windows, windows)
    window_index = np.repeat(np.array([s.first_window for s in slices], np.int64), windows) + offset
    clip_ids = list(dict.fromkeys(s.clip_id for s in slices))
    position = {clip_id: i for i, clip_id in enumerate(clip_ids)}
    clip = np.repeat(np.array([position[s.clip_id] for s in slices], np.int32), windows)
    first_sample = [0 if s.reason else s.span(window.rate_hz)[0] for s in slices]
    start = np.repeat(np.array(first_sample, np.int64), windows) + window_index * window.hop_samples

    state = np.where(np.isin(shard, np.fromiter(receipts, np.int64, len(receipts))), LABELLED, MISSING).astype(np.uint8)
    quarantine = _standing_quarantine(receipts, slices)
    first_entry = np.searchsorted(clip, np.arange(len(clip_ids)))
    for entry in quarantine:
        at = first_entry[position[entry.clip_id]] + entry.first_window
        state[at : at + entry.windows] = QUARANTINED
    return StoreIndex(
        clip_ids=np.array(clip_ids, object),
        clip=clip,
        window_index=window_index.astype(np.int32),
        state=state,
        shard=shard,
        row=_row_in_shard(shard, state == LABELLED),
        start_s=start / window.rate_hz,
        quarantine=quarantine,
    )


def _standing_slices(plans: list[pa.Table]) -> list[PlannedClip]:
    """The planned clips of all plans without those that a later plan replaces."""
    last_plan: dict[str, int] = {}
    for number, plan in enumerate(plans):
        last_plan.update(dict.fromkeys(plan["clip_id"].to_pylist(), number))
    return [s for number, plan in enumerate(plans) for s in planned_clips(plan) if last_plan[s.clip_id] == number]


def _standing_quarantine(receipts: dict[int, Receipt], slices: list[PlannedClip]) -> tuple[Quarantined, ...]:
    shards_of: dict[str, set[int]] = {}
    for s in slices:
        shards_of.setdefault(s.clip_id, set()).add(s.shard)
    return tuple(
        entry
        for shard, receipt in sorted(receipts.items())
        for entry in receipt.quarantined
        if shard in shards_of.get(entry.clip_id, ())
    )


def _row_in_shard(shard: np.ndarray, labelled: np.ndarray) -> np.ndarray:
    """How many labelled windows of the same shard stand before each one; shards ascend."""
    before = np.cumsum(labelled) - labelled
    _, first, counts = np.unique(shard, return_index=True, return_counts=True)
    return (before - np.repeat(before[first], counts)).astype(np.int32)
