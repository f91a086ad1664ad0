"""Do students of real speech gain from soft labels, on speakers whom neither they nor the teacher have heard?

    apt-get download tuxpaint-stamps-default && dpkg-deb -x tuxpaint-stamps-default_*.deb STAMPS
    python tests/benchmarks/bench_speech.py fsdd.tar.gz STAMPS [--steps 400 1600] [--seeds 5] [--work DIR] [--choose]

Ten spoken digits among other words (`speech_corpus.py` says what is in the corpora and under which licences). All
arms train with augmentation, for the same steps, and are tested on the 2,000 digits of four speakers (two folds; with
--choose the 1,000 of two others, on which choices are made) and on words of languages that nobody has heard. The
oracle is the same student with hard labels of all 50 takes. Differences are paired, with 95 % intervals of Student's
t over the seeds; a seed draws the annotated clips, the weights and the order. The last line of stdout is one JSON
object.
"""

import argparse
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from arms import DEFAULT, hard_only, recommended, taught
from bench_student import print_machine
from proof_songs import HARD_ONLY, macro_average_precision
from scipy import stats
from song_corpus import LabelledCorpus
from speech_corpus import SPEECH_MEL, speech_fold
from students import Lesson, answers, keep_features

import softlabels

SHARES = (0.05, 0.2, 1.0)
ORACLE = "oracle: hard labels of 50 takes"
RECOMMENDED = "recommended()"
ARMS: dict[str, Callable[[softlabels.JoinedLabels, int], Lesson]] = {
    HARD_ONLY: hard_only,
    RECOMMENDED: lambda labels, seed: taught(labels.recommended(), seed),
    DEFAULT: recommended,
}
REPORTED, CHOOSING = 100, 0  # the first seed of each


@dataclass(frozen=True, slots=True, kw_only=True)
class Fold:
    """Two speakers to test on and four to learn from; pictures of the clips of "train", "oracle" and "test"."""

    corpora: dict[str, LabelledCorpus]
    pictures: dict[str, Path]

    @classmethod
    def open(cls, archive: Path, stamps: Path, name: str, work: Path) -> "Fold":
        """Make what is not there yet."""
        corpora = {part: corpus.make(work) for part, corpus in speech_fold(archive, stamps, name).items()}
        pictures = {part: keep_features(one.join(), SPEECH_MEL, one.folder / "x.npy") for part, one in corpora.items()}
        return cls(corpora=corpora, pictures=pictures)

    def say(self, lessons: Sequence[Lesson], *, part: str, jobs: int) -> list[np.ndarray]:
        """(test clips, digits) logits of a student a lesson."""
        return answers(lessons, self.pictures[part], self.pictures["test"], jobs=jobs)


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """One arm at one share: right and precision, one a seed, in percent, over the clips of all folds."""

    arm: str
    share: float
    steps: int
    right: np.ndarray
    precision: np.ndarray

    def line(self, hard: "Score", oracle: "Score | None") -> str:
        """A row of the table, with the differences to hard only and the share of its gap to the oracle."""
        cells = [f"{self.steps}", f"{self.share:.0%}", self.arm]
        for mine, theirs, best in (
            (self.right, hard.right, oracle and oracle.right),
            (self.precision, hard.precision, oracle and oracle.precision),
        ):
            low, high = interval(mine - theirs)
            cell = f"{mine.mean():.1f}"
            if self is not hard:
                cell += f" ({mine.mean() - theirs.mean():+.1f}: {low:+.1f} to {high:+.1f})"
            if best is not None and self is not hard and self is not oracle:
                cell += f", {(mine.mean() - theirs.mean()) / (best.mean() - theirs.mean()):.0%} of the gap"
            cells.append(cell)
        return "| " + " | ".join(cells) + " |"


def interval(differences: np.ndarray) -> tuple[float, float]:
    """95 % of Student's t over the seeds."""
    half = stats.t.ppf(0.975, len(differences) - 1) * differences.std(ddof=1) / np.sqrt(len(differences))
    return float(differences.mean() - half), float(differences.mean() + half)


def score(
    arm: str,
    share: float,
    steps: int,
    folds: Sequence[Fold],
    said: Sequence[Sequence[np.ndarray]],
    *,
    part: str = "test",
) -> Score:
    """said: for each fold and seed (clips, digits), higher is likelier; each digit counts once, the folds' AP alike."""
    right, precision = [], []
    for fold, logits in zip(folds, said, strict=True):
        hard = fold.corpora[part].join().hard()
        spoken = hard.max(axis=1) == 1
        right.append([one[spoken].argmax(axis=1) == hard[spoken].argmax(axis=1) for one in logits])
        precision.append([macro_average_precision(hard, one) for one in logits])
    return Score(
        arm=arm,
        share=share,
        steps=steps,
        right=100 * np.concatenate(right, axis=1).mean(axis=1),
        precision=100 * np.mean(precision, axis=0),
    )


def compare(folds: Sequence[Fold], seeds: range, steps: int, shares: Sequence[float], jobs: int) -> list[Score]:
    """All arms at all shares, and the oracle."""
    scores = []
    for share in shares:
        labels = [{seed: fold.corpora["train"].join(share, seed) for seed in seeds} for fold in folds]
        for arm, recipe in ARMS.items():
            said = [
                fold.say([augmented(recipe(of_seed[seed], seed), steps) for seed in seeds], part="train", jobs=jobs)
                for fold, of_seed in zip(folds, labels, strict=True)
            ]
            scores.append(score(arm, share, steps, folds, said))
    lessons = [[augmented(hard_only(fold.corpora["oracle"].join(), seed), steps) for seed in seeds] for fold in folds]
    said = [fold.say(of_fold, part="oracle", jobs=jobs) for fold, of_fold in zip(folds, lessons, strict=True)]
    return [*scores, score(ORACLE, 1.0, steps, folds, said)]


def augmented(lesson: Lesson, steps: int) -> Lesson:
    return replace(lesson, varied=True, steps=steps)


def table(scores: Sequence[Score]) -> str:
    """Markdown; the oracle of the same steps closes the gap."""
    lines = ["| steps | annotated | arm | % right | macro average precision |", "|---|---|---|---|---|"]
    for one in scores:
        same = [other for other in scores if other.steps == one.steps]
        hard = next((other for other in same if other.arm == HARD_ONLY and other.share == one.share), one)
        lines.append(one.line(hard, next(other for other in same if other.arm == ORACLE)))
    return "\n".join(lines)


def main() -> None:
    arguments = parse()
    logging.getLogger("softlabels").setLevel(logging.ERROR)
    print_machine()
    seeds = range(first := CHOOSING if arguments.choose else REPORTED, first + arguments.seeds)
    names = ("choice",) if arguments.choose else ("report 1", "report 2")
    folds = [Fold.open(arguments.archive, arguments.stamps, name, arguments.work) for name in names]
    for part in ("train", "test"):
        told = [[fold.corpora[part].join().soft()] for fold in folds]
        teacher = score("the teacher itself", 1.0, 0, folds, told, part=part)
        print(f"{teacher.arm}, {part} clips: {teacher.right[0]:.1f} % right, {teacher.precision[0]:.1f}", flush=True)
    scores = [
        one for steps in arguments.steps for one in compare(folds, seeds, steps, arguments.shares, arguments.jobs)
    ]
    print(table(scores))
    rows = [{"arm": one.arm, "share": one.share, "steps": one.steps} | _rounded(one) for one in scores]
    print(json.dumps({"folds": names, "seeds": list(seeds), "scores": rows}))


def _rounded(one: Score) -> dict[str, list[float]]:
    return {"right": np.round(one.right, 2).tolist(), "precision": np.round(one.precision, 2).tolist()}


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("archive", type=Path, help="fsdd.tar.gz, the Free Spoken Digit Dataset")
    add("stamps", type=Path, help="the folder that tuxpaint-stamps-default was unpacked to")
    add("--shares", type=float, nargs="+", default=list(SHARES))
    add("--steps", type=int, nargs="+", default=[400, 1600])
    add("--seeds", type=int, default=5)
    add("--jobs", type=int, default=2, help="students trained at once")
    add("--work", type=Path, default=Path("bench_speech"), metavar="DIR", help="where corpora and answers are kept")
    add("--choose", action="store_true", help="the fold and seeds that choices are made on, not the reported ones")
    arguments = parser.parse_args()
    if arguments.seeds < 2:
        parser.error(f"--seeds: an interval needs 2 or more, got {arguments.seeds}")
    return arguments


if __name__ == "__main__":
    main()
