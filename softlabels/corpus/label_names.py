"""Names of labels: which class of a list each one is, and what the others are taken for."""

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterable, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from softlabels.classes.class_list import ClassList
from softlabels.classes.finder import ClassFinder, normalised, with_nearest
from softlabels.classes.guesser import likely_classes
from softlabels.corpus.label_cell import ABSENT, BACKGROUND, NOISE
from softlabels.corpus.manifest import Clip
from softlabels.errors import JoinError
from softlabels.tables import SHOWN

OtherLabels = Literal["error", "absent", "unknown", "drop"]
CHOICES = ", ".join(f"other_labels={choice!r}" for choice in get_args(OtherLabels)[1:])


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelNames:
    """What the names in use mean.

    positions: name -> class, of every name that is one. background: names such as Silence that are none: of a clip
    that has nothing else they say that it has none of the classes. others: labels of classes that the list lacks.
    notes: what a person should know, in sentences.
    """

    positions: dict[str, int]
    background: frozenset[str] = frozenset()
    others: frozenset[str] = frozenset()
    other_labels: OtherLabels = "error"
    notes: tuple[str, ...] = ()

    def read(self, clips: Sequence[Clip]) -> list[Clip]:
        """The clips with labels of the list alone, for `HardLabels.of_clips`."""
        odd = self.background | self.others
        noise = (NOISE,) if NOISE in self.positions else ()
        if not odd and not noise:
            return list(clips)
        return [
            self._read(clip, odd, noise) if not clip.labels or odd.intersection(clip.labels) else clip for clip in clips
        ]

    def _read(self, clip: Clip, odd: frozenset[str], noise: tuple[str, ...]) -> Clip:
        if not clip.labels:
            return clip if clip.labels is None else dataclasses.replace(clip, labels=noise)
        labels = tuple(name for name in clip.labels if name not in odd)
        says_nothing = not labels and self.other_labels != "absent" and not self.background.issuperset(clip.labels)
        return dataclasses.replace(clip, labels=None if says_nothing else labels)

    def left_out(self, clips: Sequence[Clip]) -> list[bool]:
        """(clips,) whether other_labels="drop" leaves a clip out: it names other classes and none of the list."""
        if self.other_labels != "drop" or not self.others:
            return [False] * len(clips)
        odd = self.background | self.others
        return [bool(self.others.intersection(c.labels or ())) and odd.issuperset(c.labels or ()) for c in clips]


def find_labels(
    clips: Sequence[Clip],
    classes: ClassList,
    source: str | Path,
    *,
    further: Set[str] = frozenset(),
    teacher: ClassList | None = None,
    class_of: Callable[[int], int | None] = lambda teacher_class: None,
    other_labels: OtherLabels = "error",
    doubts: Literal["error", "unknown"] = "error",
) -> LabelNames:
    """Find every label in a class list, as `match_classes` finds the classes of one list in another.

    A name that only stands with a `?` or a `-` may be in no class list: recordists name whatever sings.

    Args:
      source: where the labels stand, for errors; further: names in use elsewhere, such as in annotations.
      teacher: the teacher's list. class_of: its class -> the class that a mapping file makes of it, or None.
      other_labels: what a label of a class that the list lacks says, see `SoftLabelStore.join`.
      doubts: what one says that is a class by a part of its name only: "unknown" is that it is another.
    Raises: JoinError: a label that is a class by one half only, or, by default, one that is not in the list.
    """
    used = _Names(clips, further)
    finder = ClassFinder(classes, teacher or ())
    of_teacher = None if teacher is None or teacher.names == classes.names else ClassFinder(teacher)
    found: dict[str, int] = {}
    for name in sorted(used.sure | used.marked | {NOISE}):
        hit = finder.find(name)
        if hit and name.casefold() in BACKGROUND and of_teacher is None and teacher is not None:
            hit = hit if normalised(classes[hit[0]]) == normalised(name) else None  # BirdNET's Noise_Noise
        theirs = None if hit or of_teacher is None else of_teacher.find(name)
        position = hit[0] if hit else class_of(theirs[0]) if theirs else None
        if position is not None:
            found[name] = position
    lacking = [name for name in used.all if name not in found]
    alone = (name for name in lacking if name.casefold() in BACKGROUND)
    background = frozenset(name for name in alone if name not in used.beside_others)
    others = frozenset(name for name in lacking if name in used.sure) - background
    if doubts == "error":
        why = {name: finder.doubt(name) for name in lacking if name not in background}
        why |= {ABSENT + n: "it is a class itself" for n in used.all if ABSENT + n in classes}
        _raise_doubts(why, source, used, "are a class by a part of their name only")
        own = [
            name for name in others if not (of_teacher and of_teacher.find(name))
        ]  # the teacher's are known to differ
        _raise_doubts(likely_classes(own, classes), source, used, "are not found as they are")
    if others and other_labels == "error":
        raise JoinError(
            f"'{source}': {len(others)} labels are not in the class list of {len(classes)}: "
            f"{with_nearest(others, classes)}; correct them, add them to `classes`, or say what they mean for the "
            f"classes that are in it: {CHOICES}"
        )
    strange = [name for name in lacking if name not in used.sure]
    notes = _notes(used, found, finder, background=background, others=others, strange=strange, chosen=other_labels)
    if NOISE in found and not used.background:
        del found[NOISE]
    return LabelNames(
        positions=found, background=background, others=others, other_labels=other_labels, notes=tuple(notes)
    )


class _Names:
    """The names that clips use: sure, or only marked with `?` or `-`; with how many clips have each as a label."""

    def __init__(self, clips: Sequence[Clip], further: Set[str]) -> None:
        self.clips = clips
        self.cells = Counter((clip.labels, clip.unsure, clip.absent) for clip in clips)  # few differ, of a million
        self.counts: Counter[str] = Counter()
        for (labels, _, _), count in self.cells.items():
            self.counts.update(dict.fromkeys(labels or (), count))
        self.sure = set(self.counts) | further
        self.marked = {name for _, unsure, absent in self.cells for name in (*unsure, *absent)}
        self.all = sorted(self.sure | self.marked)
        self.background = sum(count for (labels, _, _), count in self.cells.items() if labels == ())
        self.negative = sum(count for (labels, _, absent), count in self.cells.items() if labels is None and absent)
        words = {name for name in self.counts if name.casefold() in BACKGROUND}
        several = (labels for labels, _, _ in self.cells if labels and len(labels) > 1)
        self.beside_others = {name for labels in several for name in words.intersection(labels)} | further

    def with_any(self, names: frozenset[str]) -> int:
        """How many clips have one of some labels."""
        return sum(count for (labels, _, _), count in self.cells.items() if not names.isdisjoint(labels or ()))

    def clip_with(self, name: str) -> str:
        """The first clip that has a name, for an error."""
        for clip in self.clips:
            if name in (*(clip.labels or ()), *clip.unsure, *clip.absent):
                return f"clip {clip.clip_id!r}"
        return "in the annotations"


def _raise_doubts(why: dict[str, str], source: str | Path, used: _Names, what: str) -> None:
    doubts = sorted(name for name, text in why.items() if text)
    if doubts:
        listed = [f"{name!r} ({used.clip_with(name)}): {why[name]}" for name in doubts[:SHOWN]]
        raise JoinError(
            f"'{source}': {len(doubts)} labels {what}: {'; '.join(listed)}; write each as it stands in the class list, "
            "or give it a name of its own if it is another; several names are joined by ';'"
        )


def _notes(
    used: _Names,
    found: dict[str, int],
    finder: ClassFinder,
    *,
    background: frozenset[str],
    others: frozenset[str],
    strange: Sequence[str],
    chosen: OtherLabels,
) -> Iterable[str]:
    """What is understood of names that do not simply stand in the list."""
    classes = finder.classes
    other = [name for name in sorted(used.all) if name in found and finder.differs(name, found[name])]
    if other:
        yield (
            f"{len(other)} labels were found by one half of their name, the other being translated, renamed or of "
            f"another genus, such as {other[0]!r} for {classes[found[other[0]]]!r}"
        )
    for name in sorted(found):
        clips = used.background if name == NOISE else used.counts[name]
        if name.casefold() in BACKGROUND and clips:
            yield f"{name!r} is the class {classes[found[name]]!r} of the list in {clips:,} clips, and not none of them"
    for name in sorted(background):
        yield f"{name!r} is in no class list: {used.counts[name]:,} clips are annotated as none of the classes"
    if used.negative:
        yield f"{used.negative:,} clips say that a class is absent ('-Name'), and nothing of the others"
    if strange:
        marks = "'?' or '-'" if any(absent for _, _, absent in used.cells) else "'?'"
        yield (
            f"{len(strange)} of the names marked {marks} are not in the class list and say nothing, such as "
            f"{strange[0]!r}"
        )
    if others:
        clips = used.with_any(others)
        does = {
            "absent": "none of the classes is there unless named",
            "unknown": "clips with no other label are not annotated",
            "drop": "clips with no other label are left out",
        }[chosen]
        yield (
            f"other_labels={chosen!r}: {len(others)} labels of {clips:,} clips are not in the class list, such as "
            f"{min(others)!r}; {does}"
        )
