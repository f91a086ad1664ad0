"""Spoken digits: a larger network of ours teaches a small student, through the pipeline's own Keras teacher."""

from pathlib import Path

import numpy as np
from arms import DEFAULT, hard_only, recommended, shuffled, taught
from comparison import Outcome
from digit_corpus import RATE_HZ, make_digits
from students import LogMel, answers, keep_features

SHARE = 0.1
MEL = LogMel(rate_hz=RATE_HZ, frame=256, hop=96, low_hz=60.0, high_hz=3900.0)
ARMS = {
    "hard only": hard_only,
    "raw": taught,
    DEFAULT: recommended,
    "shuffled": lambda labels, seed: shuffled(recommended(labels, seed)),
}


def compare_digits(archive: Path, work: Path, seeds: range, *, choose: bool, jobs: int) -> list[Outcome]:
    """Every arm at 10 % annotated, tested on a speaker whom neither teacher nor student has heard.

    The last outcome is the teacher itself, the same for every seed.
    """
    corpora = make_digits(archive, work)
    train, test = corpora["train"], corpora["choice" if choose else "test"]
    pictures = [keep_features(one.join(), MEL, one.folder / "x.npy") for one in (train, test)]
    labels = {seed: train.join(SHARE, seed) for seed in seeds}
    hard, told = test.join().hard(), test.join().soft()
    outcomes = []
    for arm, recipe in [*ARMS.items(), ("the teacher itself", None)]:
        if recipe is None:
            said = [told] * len(seeds)
        else:
            said = answers([recipe(labels[seed], seed) for seed in seeds], *pictures, jobs=jobs)
        right = np.stack([one.argmax(axis=1) == hard.argmax(axis=1) for one in said])
        outcomes.append(Outcome(arm=arm, share=SHARE, right=right))
    return outcomes
