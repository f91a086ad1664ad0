"""Suspects: labels that are likely wrong, because the teacher prefers another class to them.

The score of a label is how much the teacher prefers the best class that the clip is not annotated with: the
difference of their log-odds, each probability held within [0.001, 0.999]. From it the median over all clips with this
label is taken off, where that is positive: a teacher that never knows a species, or has it under another name, makes
suspects of none of its clips; the table of classes shows it. "noise" is held against the best labelled class: its own
probability is the rest to 1. A clip counts with the worst of its labels. Sorting by such margins within what is usual
for the label follows confident learning (Northcutt, Jiang, Chuang 2021, arXiv:1911.00068).
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.drafts.marks import checked
from pipeline.report.clip_evidence import ClipEvidence
from softlabels.classes.class_list import ClassList
from softlabels.corpus.label_cell import BETWEEN, NOISE
from softlabels.corpus.manifest import Clip
from softlabels.odds import log_odds
from softlabels.storage.location import Location, absolute
from softlabels.storage.unfinished import text_file
from softlabels.store.index import StoreIndex
from softlabels.tables import write_rows

_FLOOR = 1e-3
_ENOUGH = 5  # clips with a label, before anything is called usual for it


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspect:
    """One clip whose label is likely wrong.

    window: in the index, where the teacher scores the other class highest; start_s: where that begins in the recording.
    label: the one in doubt, as the manifest has it. score: in log-odds, above 0, higher is more suspicious.
    """

    clip: Clip
    window: int
    window_index: int
    start_s: float
    label: str
    label_probability: float
    teacher_class: str
    teacher_probability: float
    score: float

    @property
    def clip_id(self) -> str:
        return self.clip.clip_id

    @property
    def labels(self) -> tuple[str, ...]:
        """All of the clip's."""
        return self.clip.labels or (NOISE,)


def margins(evidence: ClipEvidence) -> tuple[np.ndarray, np.ndarray]:
    """How much the teacher prefers another class, in log-odds: (entries,) for labels, (clips,) for noise, else NaN."""
    other = _log_odds(evidence.other)
    of_label = other[evidence.entry_clip] - _log_odds(evidence.entry_best)
    of_noise = 2 * other
    of_noise[evidence.entry_clip] = np.nan
    unheard = evidence.other < 0
    of_label[unheard[evidence.entry_clip]], of_noise[unheard] = np.nan, np.nan
    return of_label, of_noise


def find_suspects(evidence: ClipEvidence, index: StoreIndex, classes: ClassList) -> list[Suspect]:
    """All labels to which the teacher prefers another class by more than is usual for them, worst first.

    Labels that somebody has listened to since, see `apply_marks`, are none.
    """
    of_label, of_noise = margins(evidence)
    score = of_label.copy()
    for c in np.unique(evidence.entry_class):
        here = evidence.entry_class == c
        score[here] -= _usual(of_label[here])
    of_clip = of_noise - _usual(of_noise)
    for clip, names in heard_by_people(evidence.labels.clips).items():
        known = [evidence.labels.names[name] for name in names if name in evidence.labels.names]
        first, end = np.searchsorted(evidence.entry_clip, [clip, clip + 1])
        score[first:end][np.isin(evidence.labels.classes[evidence.entry_class[first:end]], known)] = np.nan
        if names.issuperset(evidence.labels.clips[clip].labels or (NOISE,)):
            of_clip[clip] = np.nan
    worst = np.full(len(of_clip), -1, np.int64)  # entry of each clip; -1 is noise
    for entry in np.argsort(score, kind="stable").tolist():  # NaN last, and never above 0
        clip = evidence.entry_clip[entry]
        if not score[entry] <= of_clip[clip]:
            of_clip[clip], worst[clip] = score[entry], entry
    of_clip = np.nan_to_num(of_clip, nan=-np.inf)
    ranked = np.argsort(-of_clip, kind="stable")
    return [
        _suspect(evidence, index, classes, clip, int(worst[clip]), float(of_clip[clip]))
        for clip in ranked[of_clip[ranked] > 0].tolist()
    ]


def heard_by_people(clips: Sequence[Clip]) -> dict[int, frozenset[str]]:
    """The clips that somebody has listened to, and what is there."""
    return {i: names for i, clip in enumerate(clips) if clip.extra and (names := checked(clip))}


def write_suspects(suspects: Sequence[Suspect], path: str | Path, root: Location = Path()) -> None:
    """Write all of them as a CSV, worst first. root: where the recordings are."""
    columns = [field.name for field in dataclasses.fields(Suspect) if field.name not in ("clip", "window")]
    values = ([getattr(suspect, name) for name in columns] for suspect in suspects)
    texts = ([f"{value:.6g}" if isinstance(value, float) else value for value in row] for row in values)
    rows = (
        [suspect.clip_id, *row, suspect.clip.path, recording_of(suspect.clip, root)]
        for suspect, row in zip(suspects, texts, strict=True)
    )
    with text_file(path) as file:
        write_rows(file, ["clip_id", *columns, "path", "recording"], rows)


def recording_of(clip: Clip, root: Location) -> str:
    """The file or URL of a clip's recording, whatever folder one is in."""
    return clip.path if "://" in clip.path else f"{absolute(root)}/{clip.path}"


def _usual(margin: np.ndarray) -> float:
    """What the margin of a label is usually, if the teacher usually prefers another class; else 0."""
    known = margin[np.isfinite(margin)]
    return max(0.0, float(np.median(known))) if len(known) >= _ENOUGH else 0.0


def _log_odds(p: np.ndarray) -> np.ndarray:
    return log_odds(p.astype(np.float64), least=_FLOOR)


def _suspect(
    evidence: ClipEvidence, index: StoreIndex, classes: ClassList, clip: int, entry: int, score: float
) -> Suspect:
    window, labels = int(evidence.other_window[clip]), evidence.labels
    other = float(evidence.other[clip])
    doubted = int(labels.classes[evidence.entry_class[entry]]) if entry >= 0 else -1
    own = labels.clips[clip].labels or ()
    label = next((name for name in own if labels.names.get(name) == doubted), BETWEEN.join(own) or NOISE)
    return Suspect(
        clip=labels.clips[clip],
        window=window,
        window_index=int(index.window_index[window]),
        start_s=float(index.start_s(window)),
        label=label,
        label_probability=float(evidence.entry_best[entry]) if entry >= 0 else 1 - other,
        teacher_class=classes[int(evidence.other_class[clip])],
        teacher_probability=other,
        score=score,
    )
