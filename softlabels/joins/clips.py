"""The clips of a join: the manifest's rows of its split, each with its file as it was planned."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from softlabels.corpus.annotations import Annotations
from softlabels.corpus.clip_paths import read_clips_below
from softlabels.corpus.label_cell import BETWEEN
from softlabels.corpus.manifest import Clip
from softlabels.errors import JoinError
from softlabels.joins.options import JoinInputs
from softlabels.records.plan_file import ClipIdentity, clip_differences
from softlabels.store.index import StoreIndex
from softlabels.tables import some
from softlabels.windows import stretch

_AUDIO = ("start", "end", "frames", "rate_hz", "channels", "container", "size", "sha256", "reason")  # as planned


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class JoinClips:
    """listed: all clips of the manifest; chosen: those of the join's split, numbered as `clip_row` everywhere.

    listed_clip: (chosen,) int64, which of the listed each is. table: one row each: what the manifest says, and its file
    as planned; rate 0 and a reason where it never was. windows: a column of it, how many the store has planned.
    """

    listed: list[Clip]
    chosen: list[Clip]
    listed_clip: np.ndarray
    table: pa.Table

    @property
    def windows(self) -> np.ndarray:
        """(chosen,) int64: how many windows the store has planned of each; 0 where it never has."""
        return self.table["windows"].to_numpy()

    def without(self, left_out: Sequence[bool], annotated: Annotations | None) -> "JoinClips":
        """The clips that are not left out, and those of them that were annotated in time.

        Raises: JoinError: no clip is left.
        """
        keep = ~np.array(left_out, bool)
        if annotated is not None:
            keep |= np.isin(self.listed_clip, annotated.listed_clips)
        if keep.all():
            return self
        if not keep.any():
            raise JoinError(f"all {len(keep)} clips have labels of other classes only; other_labels='drop' leaves none")
        chosen = [clip for clip, kept in zip(self.chosen, keep.tolist(), strict=True) if kept]
        table = self.table.filter(pa.array(keep))
        return JoinClips(listed=self.listed, chosen=chosen, listed_clip=self.listed_clip[keep], table=table)


def read_clips(inputs: JoinInputs) -> JoinClips:
    """Read the manifest and look its clips up in the store.

    Raises: ManifestError: a faulty manifest. JoinError: no clip of the split, or one that is another in the store.
    """
    listed = read_clips_below(inputs.manifest, inputs.root)
    split = inputs.options.split
    listed_clip = np.array([i for i, clip in enumerate(listed) if split is None or clip.split == split], np.int64)
    if not len(listed_clip):
        have = sorted({clip.split for clip in listed})
        raise JoinError(
            f"manifest '{inputs.manifest}': no clip has split {split!r}; it has {', '.join(map(repr, have))}"
        )
    chosen = [listed[i] for i in listed_clip.tolist()]
    table = _clip_table(chosen, inputs.store.index)
    _check_same(chosen, table, str(inputs.store.storage))
    return JoinClips(listed=listed, chosen=chosen, listed_clip=listed_clip, table=table)


def _clip_table(clips: list[Clip], index: StoreIndex) -> pa.Table:
    span = index.spans_of([clip.clip_id for clip in clips])  # (clips, 2)
    windows = span[:, 1] - span[:, 0]
    first = np.minimum(span[:, 0], max(len(index) - 1, 0))
    stored_clip = index.stored_clip[first] if len(index) else np.zeros(len(clips), np.int64)
    taken = index.clips.select(_AUDIO).take(pa.array(stored_clip, pa.int64(), mask=windows == 0))
    columns = {name: [getattr(clip, name) for clip in clips] for name in ("clip_id", "path", "split", "fold")}
    columns["label"] = [None if clip.labels is None else BETWEEN.join(clip.labels) for clip in clips]
    table = {name: pa.array(values, pa.string()) for name, values in columns.items()}
    for name in _AUDIO:
        text = pa.types.is_string(taken[name].type)
        table[name] = taken[name].fill_null("never planned" if name == "reason" else "" if text else 0)
    return pa.table({**table, "windows": pa.array(windows, pa.int64())})


def _check_same(clips: list[Clip], table: pa.Table, store: str) -> None:
    """Hold what identifies each clip against what the store has under that id. Raises: JoinError."""
    start_s = np.array([clip.start_s for clip in clips], np.float64)
    end_s = np.array([np.nan if clip.end_s is None else clip.end_s for clip in clips], np.float64)
    start, end = stretch(start_s, end_s, table["frames"].to_numpy(), table["rate_hz"].to_numpy())
    listed = ClipIdentity(start=start, end=end, sha256=np.array([clip.sha256 for clip in clips], object))
    heard = table["reason"].to_numpy() == ""
    for what, differs in clip_differences(listed, ClipIdentity.of_table(table)).items():
        others = np.flatnonzero(heard & differs)
        if len(others):
            raise JoinError(
                f"{len(others)} clips have another {what} in the manifest than when store '{store}' labelled them: "
                f"{some(clips[i].clip_id for i in others)}; give what is new a new clip_id and `softlabels run`, or "
                "correct the manifest"
            )
