"""JoinedRows: which windows a join consists of, and where in the store the label of each is."""

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np

from softlabels.errors import JoinError
from softlabels.joins.clips import JoinClips
from softlabels.joins.options import JoinInputs
from softlabels.ragged import owners, ranges
from softlabels.store.index import LABELLED, MISSING, QUARANTINED


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class JoinedRows:
    """The rows of a join, in the order of the manifest, then of the windows.

    clip_row: (rows,) int32; window_index: (rows,) int32; start: (rows,) int64, first sample in the file at the
    teacher's rate; has_soft: (rows,) bool.
    target, shard, shard_row: (labelled windows,) int64, int32, int32: the window at `shard_row` of `shard` belongs to
    joined row `target`; several belong to one when windows are pooled.
    left_out: the fields of a `JoinReport` about windows of the manifest that have no label.
    """

    clip_row: np.ndarray
    window_index: np.ndarray
    start: np.ndarray
    has_soft: np.ndarray
    target: np.ndarray
    shard: np.ndarray
    shard_row: np.ndarray
    left_out: dict[str, Any]

    def __len__(self) -> int:
        return len(self.clip_row)


def find_rows(clips: JoinClips, inputs: JoinInputs) -> JoinedRows:
    """Look up every window of every clip; pooled, all windows of a clip belong to one row.

    A clip that the store has never planned has an unknown number of windows; with missing="hard" it is one row.
    Raises: JoinError: windows without a label, and missing is "error".
    """
    index, missing, window = inputs.store.index, inputs.options.missing, inputs.store.spec.window
    span = index.spans_of([clip.clip_id for clip in clips.chosen])  # (clips, 2)
    known = span[:, 1] > span[:, 0]
    counts = np.where(known, span[:, 1] - span[:, 0], 1)
    clip_row = owners(counts).astype(np.int32)  # (windows,)
    within = ranges(np.zeros_like(counts), counts)
    entry = ranges(span[:, 0], counts)
    state = np.where(known[clip_row], index.state[entry] if len(index) else MISSING, MISSING).astype(np.uint8)

    left_out: dict[str, Any] = {}
    for name, wanted in {"quarantined": QUARANTINED, "missing": MISSING}.items():
        here = np.flatnonzero(state == wanted)
        examples = tuple(f"{clips.chosen[clip_row[i]].clip_id}, window {within[i]}" for i in here[:10])
        left_out |= {f"windows_{name}": len(here), f"{name}_examples": examples}
    if left_out["windows_missing"] and missing == "error":
        raise JoinError(
            f"store '{inputs.store.storage}' has no label for {left_out['windows_missing']} windows of the manifest: "
            f"{'; '.join(left_out['missing_examples'])}; run `softlabels run` to label them, or join with "
            "missing='drop' or missing='hard'"
        )
    keep = np.flatnonzero(state != QUARANTINED if missing == "hard" else state == LABELLED)
    has_soft = state[keep] == LABELLED
    target = np.flatnonzero(has_soft)
    labelled = entry[keep[target]]
    start = np.rint(np.array([clip.start_s for clip in clips.chosen]) * window.rate_hz).astype(np.int64)[clip_row[keep]]
    planned = np.flatnonzero(known[clip_row[keep]])
    start[planned] = index.start[entry[keep[planned]]]
    rows = JoinedRows(
        clip_row=clip_row[keep],
        window_index=within[keep].astype(np.int32),
        start=start,
        has_soft=has_soft,
        target=target,
        shard=index.shard[labelled],
        shard_row=index.row[labelled],
        left_out=left_out,
    )
    if inputs.options.windows == "each":
        return rows
    clip_row, first, of_row = np.unique(rows.clip_row, return_index=True, return_inverse=True)
    target = of_row[rows.target]
    return dataclasses.replace(
        rows,
        clip_row=clip_row,
        window_index=np.zeros(len(clip_row), np.int32),
        start=rows.start[first],
        has_soft=np.isin(np.arange(len(clip_row)), target),
        target=target,
    )
