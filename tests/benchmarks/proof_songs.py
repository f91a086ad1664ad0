"""Songs: BirdNET teaches a small student; arms that differ in labels and loss alone, at several shares of annotation.

Two sets of corpora: every choice (network, rate, calibration, trust, alpha, temperature) was made on CHOICE; REPORT,
with other clips and other seeds, was looked at once they stood.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from arms import DEFAULT, hard_only, published, recommended, shuffled, taught
from comparison import Outcome
from quantised import int8_answers
from song_corpus import TEST, TRAIN, LabelledCorpus, SongCorpus
from students import FIELD, SMALL, Lesson, LogMel, answers, keep_features

import softlabels
from softlabels.evidence.ranking import average_precision

SHARES = (0.02, 0.1, 0.5, 1.0)
HARD_ONLY = "hard only"
NETWORKS = {"4 k weights": SMALL, "51 k weights": FIELD}
CHOICE = (
    SongCorpus(name="choice_train", clips=1650, seed=11, settings=TRAIN),
    SongCorpus(name="choice_test", clips=1100, seed=12, settings=TEST),
)
REPORT = (
    SongCorpus(name="train", clips=1650, seed=21, settings=TRAIN),
    SongCorpus(name="test", clips=2420, seed=22, settings=TEST),
)
CHOICE_WEAK, WEAK = (
    SongCorpus(name=name, clips=165, seed=seed, settings=replace(TRAIN, seconds=60.0, one_song=True))
    for name, seed in (("choice_weak", 32), ("weak", 31))
)
Recipe = Callable[[softlabels.JoinedLabels, int], Lesson]

ARMS: dict[str, Recipe] = {
    HARD_ONLY: hard_only,
    "hard only, softmax": lambda labels, seed: hard_only(labels.exclusive(), seed),
    "raw": taught,
    "calibrated": lambda labels, seed: taught(labels.calibrate(), seed),
    DEFAULT: recommended,
    "softmax": lambda labels, seed: taught(labels.exclusive(), seed),
    "shuffled": lambda labels, seed: shuffled(recommended(labels, seed)),
    "published, T = 3": published,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class AugmentedOutcome:
    """right, precision: one a seed, share of singing test clips right and macro average precision."""

    arm: str
    share: float
    steps: int
    right: list[float]
    precision: list[float]

    def __str__(self) -> str:
        means = f"{100 * np.mean(self.right):5.1f} / {100 * np.mean(self.precision):5.1f}"
        return f"{self.steps:>5} steps  {self.share:4.0%}  {self.arm:<28}{means}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Classroom:
    """A training corpus, a test corpus and their pictures."""

    train: LabelledCorpus
    test: LabelledCorpus
    train_x: Path
    test_x: Path
    jobs: int

    @classmethod
    def open(cls, work: Path, corpora: tuple[SongCorpus, SongCorpus], jobs: int) -> "Classroom":
        """Make corpora, stores and pictures that are not there yet."""
        train, test = (corpus.make(work) for corpus in corpora)
        pictures = [keep_features(one.join(), LogMel(), one.folder / "x.npy") for one in (train, test)]
        return cls(train=train, test=test, train_x=pictures[0], test_x=pictures[1], jobs=jobs)

    def outcome(self, arm: str, share: float, lessons: list[Lesson]) -> Outcome:
        """Train and examine; the test is which of the species sings, noise clips left out."""
        said = answers(lessons, self.train_x, self.test_x, jobs=self.jobs)
        return self.examine(arm, share, said)

    def examine(self, arm: str, share: float, said: list[np.ndarray]) -> Outcome:
        """said: (clips, outputs) a student; an output behind the species, "rest", does not count."""
        hard = self.test.join().hard()  # (clips, species)
        sung = hard.max(axis=1) == 1
        top = np.stack([one[sung, : hard.shape[1]].argmax(axis=1) for one in said])  # (seeds, sung)
        return Outcome(arm=arm, share=share, right=top == hard[sung].argmax(axis=1))

    def teacher_accuracy(self) -> float:
        return self.examine("teacher", 1.0, [self.test.join().soft()]).accuracy


def compare(room: Classroom, seeds: range, shares: tuple[float, ...] = SHARES) -> list[Outcome]:
    """All arms at all shares; the seed draws which clips are annotated, the weights and the order."""
    outcomes = []
    for share in shares:
        labels = {seed: room.train.join(share, seed) for seed in seeds}
        for arm, recipe in ARMS.items():
            outcomes.append(room.outcome(arm, share, [recipe(labels[seed], seed) for seed in seeds]))
            print(f"  {share:4.0%}  {arm:<28}{outcomes[-1].accuracy:7.1%}", flush=True)
    return outcomes


def compare_augmented(
    room: Classroom, seeds: range, steps: Sequence[int], shares: tuple[float, ...] = SHARES
) -> list[AugmentedOutcome]:
    """Hard only and the default recipe with augmentation in both, as a good practitioner would train anyway."""
    outcomes = []
    hard = room.test.join().hard()  # (clips, species)
    sung = hard.max(axis=1) == 1
    for budget in steps:
        for share in shares:
            labels = {seed: room.train.join(share, seed) for seed in seeds}
            for arm in (HARD_ONLY, DEFAULT):
                lessons = [replace(ARMS[arm](labels[seed], seed), varied=True, steps=budget) for seed in seeds]
                logits = answers(lessons, room.train_x, room.test_x, jobs=room.jobs)
                right = [float((one[sung].argmax(axis=1) == hard[sung].argmax(axis=1)).mean()) for one in logits]
                precision = [macro_average_precision(hard, one) for one in logits]
                outcomes.append(AugmentedOutcome(arm=arm, share=share, steps=budget, right=right, precision=precision))
                print(f"  {outcomes[-1]}", flush=True)
    return outcomes


def macro_average_precision(hard: np.ndarray, logits: np.ndarray) -> float:
    """Mean over the species of the average precision among all test clips, noise clips included."""
    return float(np.mean([average_precision(hard[:, c] == 1, logits[:, c]) for c in range(hard.shape[1])]))


def compare_unannotated(room: Classroom, seeds: range) -> list[Outcome]:
    """Soft labels alone: nobody has annotated anything."""
    labels = room.train.join(0.0, 0)
    recipes = {"raw": taught, "softmax": ARMS["softmax"]}
    return [room.outcome(arm, 0.0, [recipe(labels, seed) for seed in seeds]) for arm, recipe in recipes.items()]


def compare_jittered(room: Classroom, work: Path, seeds: range, shares: tuple[float, ...] = SHARES) -> list[Outcome]:
    """The default recipe on labels that are the mean over four shifts of each window."""
    jittered = replace(REPORT[0], jitters=4).make(work)
    return [
        room.outcome(f"{DEFAULT}, 4 jitters", share, [recommended(jittered.join(share, seed), seed) for seed in seeds])
        for share in shares
    ]


def compare_embedding(
    room: Classroom, work: Path, seeds: range, *, choose: bool, shares: Sequence[float] = (0.02, 0.1, 1.0)
) -> list[Outcome]:
    """The default recipe, and the same with the teacher's embedding learned beside it, by two networks.

    Seeds are paired: the same clips are annotated, the same weights at first, the same order of rows.
    """
    train = replace((CHOICE if choose else REPORT)[0], embedding=True).make(work)
    outcomes = []
    for share in shares:
        labels = {seed: train.join(share, seed) for seed in seeds}
        for network, widths in NETWORKS.items():
            lessons = [replace(recommended(labels[seed], seed), widths=widths) for seed in seeds]
            told = [replace(each, embedding=labels[each.seed].embedding()) for each in lessons]
            for arm, of_arm in ((f"recipe, {network}", lessons), (f"recipe + embedding, {network}", told)):
                outcomes.append(room.outcome(arm, share, of_arm))
                print(f"  {share:4.0%}  {arm:<28}{outcomes[-1].accuracy:7.1%}", flush=True)
    return outcomes


def compare_weak(work: Path, seeds: range, jobs: int, *, choose: bool) -> list[Outcome]:
    """Clips of 60 s with one short song: where in a clip does its label hold, and which windows are worth a look?"""
    train, test = (CHOICE_WEAK, CHOICE[1]) if choose else (WEAK, REPORT[1])
    room = Classroom.open(work, (train, test), jobs)
    outcomes = []
    for arm, recipe in ((HARD_ONLY, hard_only), (DEFAULT, recommended)):
        for weak_labels in ("spread", "best"):
            labels = room.train.join(weak_labels=weak_labels)
            lessons = [recipe(labels, seed) for seed in seeds]
            outcomes.append(room.outcome(f"{arm}, weak_labels={weak_labels!r}", 1.0, lessons))
            guided = [replace(lesson, weights=labels.sampling_weights()) for lesson in lessons]
            outcomes.append(room.outcome(f"{arm}, weak_labels={weak_labels!r}, sampling_weights", 1.0, guided))
    return outcomes


def compare_int8(room: Classroom, seeds: range, share: float = 0.1) -> list[Outcome]:
    """Default recipe and hard only, as float and as int8."""
    outcomes = []
    for arm in (HARD_ONLY, DEFAULT):
        lessons = [ARMS[arm](room.train.join(share, seed), seed) for seed in seeds]
        outcomes.append(room.outcome(arm, share, lessons))
        said = answers(lessons, room.train_x, room.test_x, jobs=room.jobs, examine=int8_answers)
        outcomes.append(room.examine(f"{arm}, int8", share, said))
    return outcomes
