"""A fair proof: students with soft labels against students that train as well as a good practitioner would anyway.

Every arm trains with augmentation and with the same number of steps. A pair of arms shares its corpora, which are drawn
anew for each seed together with the clips that are annotated, the weights and the order; so an interval is about songs
like these, not about one set of them. Choices (penalties, components, alpha) were made on calls (`call_corpus.py`) and
on other songs. Not here: how a student learns (`students.py`), corpora (`song_corpus.py`).
"""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from arms import hard_only, recommended, taught
from call_corpus import TEST as CALLS_TEST
from call_corpus import CallCorpus
from quantised import int8_answers
from scipy import stats
from song_corpus import TEST, TRAIN, LabelledCorpus, SongCorpus
from students import Examine, Lesson, LogMel, answers_each, float_answers, keep_features

import softlabels
from softlabels.adaptation import components
from softlabels.evidence.ranking import average_precision, operating_point

SHARES = (0.02, 0.1, 0.5, 1.0)
HARD_ONLY, ADAPTED, CALIBRATED, ORACLE = (
    "hard only",
    "recommended()",
    "calibrate().trust()",
    "hard only, ten times more",
)
Recipe = Callable[[softlabels.JoinedLabels, int], Lesson]
ARMS: dict[str, Recipe] = {
    HARD_ONLY: hard_only,
    ADAPTED: lambda labels, seed: taught(labels.recommended(), seed),
    CALIBRATED: recommended,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """What one student does on its test clips; shares and average precisions in [0, 1].

    right: of the clips with a species, those of which the student names it first. precision: average precision of each
    class among all test clips, noise included. At the operating point, where precision and recall of a class are equal:
    alarms: noise clips in which any class is found; silent: clips with a species in which none is.
    """

    right: float
    precision: list[float]
    alarms: float
    silent: float

    @property
    def macro(self) -> float:
        return float(np.mean(self.precision))


def scores_of(hard: np.ndarray, logits: np.ndarray) -> Scores:
    """(clips, classes) each."""
    sung = hard.max(axis=1) == 1
    thresholds = [operating_point(hard[:, c] == 1, logits[:, c])[0] for c in range(hard.shape[1])]
    found = (logits > np.array(thresholds)).any(axis=1)
    return Scores(
        right=float((logits[sung].argmax(axis=1) == hard[sung].argmax(axis=1)).mean()),
        precision=[average_precision(hard[:, c] == 1, logits[:, c]) for c in range(hard.shape[1])],
        alarms=float(found[~sung].mean()),
        silent=float((~found[sung]).mean()),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class FairOutcome:
    """One arm at one share of annotated clips; a score a seed."""

    arm: str
    share: float
    steps: int
    scores: list[Scores]

    def mean(self, what: str) -> float:
        return float(np.mean([getattr(one, what) for one in self.scores]))

    def __str__(self) -> str:
        worst = min(np.mean([one.precision for one in self.scores], axis=0))
        right, macro, alarms, silent = (100 * self.mean(what) for what in ("right", "macro", "alarms", "silent"))
        return (
            f"{self.steps:>5} steps  {self.share:5.0%}  {self.arm:<26}{right:5.1f} / {macro:5.1f}  "
            f"worst class {100 * worst:5.1f}  alarms {alarms:5.1f}  silent {silent:5.1f}"
        )


def interval(ours: Sequence[float], theirs: Sequence[float]) -> tuple[float, float, float]:
    """Mean paired difference and its 95 % interval by Student's t, in points."""
    gap = 100 * (np.array(ours) - np.array(theirs))
    half = stats.t.ppf(0.975, len(gap) - 1) * gap.std(ddof=1) / np.sqrt(len(gap))
    return float(gap.mean()), float(gap.mean() - half), float(gap.mean() + half)


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """Training and test corpus of one seed, and their pictures."""

    train: LabelledCorpus
    test: LabelledCorpus
    train_x: Path
    test_x: Path

    @classmethod
    def open(cls, train: LabelledCorpus, test: LabelledCorpus, mel: LogMel) -> "Room":
        pictures = [keep_features(one.join(), mel, one.folder / "x.npy") for one in (train, test)]
        return cls(train=train, test=test, train_x=pictures[0], test_x=pictures[1])


def song_room(work: Path, seed: int) -> Room:
    """Songs, other ones for each seed."""
    train = SongCorpus(name=f"songs{seed}_train", clips=1650, seed=100 + seed, settings=TRAIN).make(work)
    test = SongCorpus(name=f"songs{seed}_test", clips=1100, seed=200 + seed, settings=TEST).make(work)
    return Room.open(train, test, LogMel())


def call_room(work: Path, seed: int) -> Room:
    """Calls of the second generator, other animals for each seed."""
    train = CallCorpus(name=f"calls{seed}_train", clips=1650, seed=400 + seed).make(work)
    test = CallCorpus(name=f"calls{seed}_test", clips=1100, seed=500 + seed, settings=CALLS_TEST).make(work)
    return Room.open(train, test, LogMel())


def compare_fair(
    rooms: Sequence[Room],
    arms: dict[str, Recipe],
    steps: Sequence[int],
    shares: Sequence[float],
    *,
    jobs: int,
    oracle: bool = True,
    examine: Examine = float_answers,
) -> list[FairOutcome]:
    """All arms; the n-th room has the seed 100 + n."""
    outcomes = []
    for budget in steps:
        for share in shares:
            tried = [(arm, share, recipe) for arm, recipe in arms.items()]
            if oracle and share <= 0.1:
                tried.append((ORACLE, 10 * share, hard_only))
            for arm, annotated, recipe in tried:
                lessons = [recipe(room.train.join(annotated, 100 + n), 100 + n) for n, room in enumerate(rooms)]
                tasks = [
                    (replace(lesson, varied=True, steps=budget), room.train_x, room.test_x)
                    for lesson, room in zip(lessons, rooms, strict=True)
                ]
                given = answers_each(tasks, jobs=jobs, examine=examine)
                scores = [scores_of(room.test.join().hard(), each) for room, each in zip(rooms, given, strict=True)]
                outcomes.append(FairOutcome(arm=arm, share=share, steps=budget, scores=scores))
                print(f"  {outcomes[-1]}", flush=True)
    return outcomes


def verdicts(outcomes: Sequence[FairOutcome], ours: str = ADAPTED, opponent: str = HARD_ONLY) -> list[str]:
    """A line for each share and number of steps: gains over an opponent with their intervals, and the gap closed."""
    lines = []
    for one in outcomes:
        if one.arm != ours:
            continue
        here = {each.arm: each for each in outcomes if (each.share, each.steps) == (one.share, one.steps)}
        base, parts = here[opponent], []
        for what in ("right", "macro", "alarms", "silent"):
            mean, low, high = interval(*([getattr(s, what) for s in arm.scores] for arm in (one, base)))
            parts.append(f"{what} {mean:+.1f} ({low:+.1f} to {high:+.1f})")
        per_class = 100 * np.mean([s.precision for s in one.scores], axis=0)
        per_class -= 100 * np.mean([s.precision for s in base.scores], axis=0)
        parts.append(f"worst class {per_class.min():+.1f}")
        if ORACLE in here:
            gap = here[ORACLE].mean("macro") - base.mean("macro")
            parts.append(f"{(one.mean('macro') - base.mean('macro')) / gap:.0%} of the gap to ten times more closed")
        lines.append(f"{one.steps:>5} steps  {one.share:5.0%}  {'; '.join(parts)}")
    return lines


def as_json(outcomes: Sequence[FairOutcome]) -> list[dict]:
    return [dataclasses.asdict(one) for one in outcomes]


def int8(rooms: Sequence[Room], steps: int, share: float, jobs: int) -> list[FairOutcome]:
    """Hard only and the recommended labels, as a microcontroller runs their students."""
    arms = {name: ARMS[name] for name in (HARD_ONLY, ADAPTED)}
    return compare_fair(rooms, arms, [steps], [share], jobs=jobs, oracle=False, examine=int8_answers)


def without_each_class(rooms: Sequence[Room], steps: int, share: float, jobs: int) -> dict[str, tuple[float, float]]:
    """Each class is taken out of the teacher's list in turn, as if it had never known it; the n-th from the n-th room.

    Returns: for each, the average precision of its student, and that of the other classes on average, in percent.
    """
    names = list(rooms[0].train.join().classes)
    tasks = []
    for n, name in enumerate(names):
        room = rooms[n % len(rooms)]
        labels = adapted_without(room.train, share, 100 + n, name)
        lesson = replace(taught(labels, 100 + n), varied=True, steps=steps)
        tasks.append((lesson, room.train_x, room.test_x))
    found = {}
    for n, (name, logits) in enumerate(zip(names, answers_each(tasks, jobs=jobs), strict=True)):
        precision = scores_of(rooms[n % len(rooms)].test.join().hard(), logits).precision
        others = float(np.mean([p for c, p in enumerate(precision) if c != n]))
        found[name] = (100 * precision[n], 100 * others)
        print(f"  without {name:<45}{100 * precision[n]:5.1f}, the others {100 * others:5.1f}", flush=True)
    return found


def adapted_without(corpus: LabelledCorpus, share: float, seed: int, name: str) -> softlabels.JoinedLabels:
    """Adapted labels of a teacher that lacks a class: its log-odds are no part of the components either."""
    mapping = corpus.folder / f"without-{name.split('_')[0].replace(' ', '-')}.csv"
    mapping.write_text(f"student_class,teacher_class\n{name},\n", encoding="utf-8")
    labels = corpus.join(share, seed, mapping=mapping)
    position, whole = list(softlabels.open(corpus.folder / corpus.store).classes).index(name), components.shard_logits

    def lacking(*arguments: Any) -> np.ndarray:
        return np.delete(whole(*arguments), position, axis=1)

    version = components.VERSION
    components.shard_logits, components.VERSION = lacking, f"{version} without {name}"  # type: ignore[assignment]
    try:
        return labels.adapt()
    finally:
        components.shard_logits, components.VERSION = whole, version


def compare_weak_fair(rooms: Sequence[Room], steps: int, jobs: int) -> list[FairOutcome]:
    """Long clips with one short song, all annotated weakly: windows drawn evenly, and by `sampling_weights`."""
    arms: dict[str, Recipe] = {}
    for arm in (HARD_ONLY, ADAPTED):
        arms[f"{arm}, evenly"] = ARMS[arm]
        arms[f"{arm}, by weights"] = lambda labels, seed, arm=arm: replace(
            ARMS[arm](labels, seed), weights=labels.sampling_weights()
        )
    return compare_fair(rooms, arms, [steps], [1.0], jobs=jobs, oracle=False)


def weak_room(work: Path, seed: int) -> Room:
    """110 clips of 60 s with one short song; tests as for songs."""
    settings = replace(TRAIN, seconds=60.0, one_song=True)
    train = SongCorpus(name=f"weak{seed}_train", clips=110, seed=300 + seed, settings=settings).make(work)
    test = SongCorpus(name=f"songs{seed}_test", clips=1100, seed=200 + seed, settings=TEST).make(work)
    return Room.open(train, test, LogMel())
