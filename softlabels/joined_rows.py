"""JoinedRows: which windows a join consists of, and where in the store the label of each is."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from softlabels.errors import JoinError
from softlabels.index import LABELLED, MISSING, QUARANTINED, StoreIndex
from softlabels.manifest import Clip

Missing = Literal["error", "drop", "hard"]


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinedRows:
    """The rows of a join, in the order of the manifest, then of the windows.

    clip: (rows,) int32 position in the manifest; window_index: (rows,) int32; start_s: (rows,) float64;
    has_soft: (rows,) bool.
    target, shard, row: (labelled windows,) int64, int32, int32: the window at `row` of `shard` belongs to joined
    row `target`; several belong to one when windows are pooled.
    quarantined, missing: windows of the manifest that have no label; the examples name up to ten of each.
    """

    clip: np.ndarray
    window_index: np.ndarray
    start_s: np.ndarray
    has_soft: np.ndarray
    target: np.ndarray
    shard: np.ndarray
    row: np.ndarray
    quarantined: int
    quarantined_examples: tuple[str, ...]
    missing: int
    missing_examples: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.clip)


def find_rows(clips: Sequence[Clip], index: StoreIndex, missing: Missing, store: str) -> JoinedRows:
    """Look up every window of every clip.

    A clip that the store has never planned has an unknown number of windows; with missing="hard" it is one row.
    Raises: JoinError: windows without a label, and missing is "error".
    """
    span = index.spans_of([clip.clip_id for clip in clips])  # (clips, 2)
    known = span[:, 1] > span[:, 0]
    counts = np.where(known, span[:, 1] - span[:, 0], 1)
    clip = np.repeat(np.arange(len(clips), dtype=np.int32), counts)  # (windows,)
    within = np.arange(len(clip), dtype=np.int64)
    within -= np.repeat(np.cumsum(counts) - counts, counts)
    entry = np.repeat(span[:, 0], counts) + within
    state = np.where(known[clip], index.state[entry] if len(index) else MISSING, MISSING).astype(np.uint8)

    def examples(wanted: int) -> tuple[str, ...]:
        return tuple(f"{clips[clip[i]].clip_id}, window {within[i]}" for i in np.flatnonzero(state == wanted)[:10])

    gone = int(np.count_nonzero(state == MISSING))
    if gone and missing == "error":
        raise JoinError(
            f"store '{store}' has no label for {gone} windows of the manifest: {'; '.join(examples(MISSING))}; run "
            "`softlabels run` to label them, or join with missing='drop' or missing='hard'"
        )
    keep = np.flatnonzero(state != QUARANTINED if missing == "hard" else state == LABELLED)
    has_soft = state[keep] == LABELLED
    target = np.flatnonzero(has_soft)
    labelled = entry[keep[target]]
    planned = np.flatnonzero(known[clip[keep]])
    starts = np.array([c.start_s for c in clips], np.float64)[clip[keep]]  # (rows,)
    starts[planned] = index.start_s[entry[keep[planned]]]
    return JoinedRows(
        clip=clip[keep],
        window_index=within[keep].astype(np.int32),
        start_s=starts,
        has_soft=has_soft,
        target=target,
        shard=index.shard[labelled],
        row=index.row[labelled],
        quarantined=int(np.count_nonzero(state == QUARANTINED)),
        quarantined_examples=examples(QUARANTINED),
        missing=gone,
        missing_examples=examples(MISSING),
    )


def pool_rows(rows: JoinedRows) -> JoinedRows:
    """One row a clip, to which the label of each of its windows belongs."""
    clip, first, of_row = np.unique(rows.clip, return_index=True, return_inverse=True)
    target = of_row[rows.target]
    has_soft = np.zeros(len(clip), bool)
    has_soft[target] = True
    return JoinedRows(
        clip=clip,
        window_index=np.zeros(len(clip), np.int32),
        start_s=rows.start_s[first],
        has_soft=has_soft,
        target=target,
        shard=rows.shard,
        row=rows.row,
        quarantined=rows.quarantined,
        quarantined_examples=rows.quarantined_examples,
        missing=rows.missing,
        missing_examples=rows.missing_examples,
    )
