"""A look at a join before anybody trains on it: counts, agreement, alignment, leaks; what the report says."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from softlabels.classes.class_list import ClassList
from softlabels.classes.matching import ClassMatch
from softlabels.corpus.leaks import shared_audio
from softlabels.errors import JoinError
from softlabels.evidence.agreement import teacher_label_agreement
from softlabels.evidence.canary import alignment_canary
from softlabels.evidence.trust import harm_notes
from softlabels.joins.clips import JoinClips
from softlabels.joins.options import JoinInputs
from softlabels.joins.rows import JoinedRows
from softlabels.labels.arrays import JoinArrays, annotated_clips
from softlabels.labels.report import ClassReport, JoinReport
from softlabels.store.index import positions_of

MAX_VALUES = 1 << 22  # of annotated clips whose maxima are looked at


def check_join(
    arrays: JoinArrays,
    clips: JoinClips,
    rows: JoinedRows,
    match: ClassMatch,
    inputs: JoinInputs,
    *,
    notes: Sequence[str] = (),
) -> JoinReport:
    """Report on a join; notes: what else a person should know.

    Raises: JoinError: the teacher's labels do not belong to these rows or classes.
    """
    sampled, soft, hard = arrays.annotated_sample(rows.has_soft)
    splits = dict.fromkeys(sorted({clip.split for clip in clips.chosen}), 0)
    for clip, count in zip(clips.chosen, np.bincount(arrays.clip_row, minlength=len(clips.chosen)), strict=True):
        splits[clip.split] += int(count)
    planned = inputs.store.index.clips
    stored_clip = positions_of([clip.clip_id for clip in clips.listed], planned)
    sha256 = planned["sha256"].combine_chunks().take(pa.array(stored_clip, pa.int64(), mask=stored_clip < 0))
    shared = shared_audio(clips.listed, sha256, {clip.split for clip in clips.chosen})
    tested = _canary(soft, hard, arrays, sampled, inputs.classes) if inputs.options.canary else ("not tested", ())
    annotated = annotated_clips(
        arrays,
        arrays.y_true,
        inputs.classes,
        inputs.store.activation,
        pooled=inputs.options.windows != "each",
        max_values=MAX_VALUES,
        every_class=True,
    )
    notes = [*match.notes, *notes]
    if len(splits) > 1:
        listed = ", ".join(f"{name or '(none)'} {count:,}" for name, count in splits.items())
        notes.append(f"rows of several splits are joined ({listed}); split='train' keeps the others out of training")
    if shared:
        notes.append(f"{len(shared)} clips have the same audio as one of another split, such as {shared[0]}")
    return JoinReport(
        **figures(arrays, rows.has_soft, inputs.classes, match.how, soft, hard),
        clips=len(clips.chosen),
        splits=splits,
        **rows.left_out,
        shared_audio=len(shared),
        shared_audio_examples=tuple(shared[:10]),
        canary=tested[0],
        notes=(*notes, *tested[1], *harm_notes(annotated, splits)),
    )


def figures(
    arrays: JoinArrays, has_soft: np.ndarray, classes: ClassList, how: Sequence[str], soft: np.ndarray, hard: np.ndarray
) -> dict[str, Any]:
    """The fields of a report that hang on the teacher's answers. soft, hard: of a sample."""
    has_hard = arrays.annotated()  # (rows,) bool
    hard_only, soft_only = np.flatnonzero(has_hard & ~has_soft), np.flatnonzero(~has_hard & has_soft)
    both = int(np.count_nonzero(has_hard & has_soft))
    agreement = teacher_label_agreement(soft, hard)
    means = np.stack([agreement.mean_present, agreement.mean_absent], axis=1).astype(object)
    means[means != means] = None  # NaN, where there are none
    positives = arrays.hard.positives(np.bincount(arrays.hard_group, minlength=len(arrays.hard)), len(classes))
    return {
        "rows": len(has_soft),
        "rows_both": both,
        "rows_hard_only": len(hard_only),
        "rows_soft_only": len(soft_only),
        "rows_neither": len(has_soft) - both - len(hard_only) - len(soft_only),
        "hard_only_examples": arrays.names(hard_only[:10]),
        "soft_only_examples": arrays.names(soft_only[:10]),
        "matched": dict(Counter(found for found in how if found)),
        "unmatched": tuple(name for name, found in zip(classes, how, strict=True) if not found),
        "per_class": tuple(
            ClassReport(name=name, how=found, rows=rows, on_present=present, on_absent=absent)
            for name, found, rows, (present, absent) in zip(
                classes, how, positives.tolist(), means.tolist(), strict=True
            )
        ),
        "agreement": agreement.top1 if agreement.rows else None,
        "agreement_rows": agreement.rows,
    }


def _canary(
    soft: np.ndarray, hard: np.ndarray, arrays: JoinArrays, sampled: np.ndarray, classes: ClassList
) -> tuple[str, tuple[str, ...]]:
    """What the canary saw, and a note where it is not convinced. Raises: JoinError: it speaks against the join."""
    canary = alignment_canary(soft, hard, groups=arrays.clip_row[sampled])
    look = [f"classes {classes[a]!r} and {classes[b]!r}" for a, b in canary.swapped[:3]]
    look += [*arrays.names(sampled[list(canary.contradicted[:3])]), "`softlabels.open(STORE).per_clip()`"]
    hint = (
        "rows or classes are mixed up (clip_ids, the order of the model's labels, annotations of another corpus), or "
        f"this teacher cannot tell these classes, or is far too sure of them: look at {'; '.join(look)}"
    )
    if canary.verdict == "misaligned":
        raise JoinError(
            f"the teacher's labels do not fit these annotations: {canary}; {hint}, or join with canary=False to go on"
        )
    notes = (f"{canary}; perhaps {hint}",) if canary.verdict == "not convinced" else ()
    return str(canary).removeprefix("alignment: "), notes
