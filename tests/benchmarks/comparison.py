"""Arms beside each other: means, paired differences with intervals, a table and a plot. No training here."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import stats

RESAMPLINGS = 4000


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How one arm's students did. right: (seeds, clips) bool, the same seeds and test clips in every arm."""

    arm: str
    share: float
    right: np.ndarray

    @property
    def accuracy(self) -> float:
        return float(self.right.mean())


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A paired difference of accuracies with two 95 % intervals.

    by_seed: Student's t over the seeds' differences, the test clips as given.
    by_clip: percentiles of a bootstrap that draws seeds and test clips anew, both paired.
    """

    mean: float
    by_seed: tuple[float, float]
    by_clip: tuple[float, float]


def difference(one: Outcome, other: Outcome) -> Difference:
    """one - other; needs two seeds or more."""
    gap = one.right.astype(np.float64) - other.right  # (seeds, clips)
    per_seed = gap.mean(axis=1)
    seeds, clips = gap.shape
    half = float(stats.t.ppf(0.975, seeds - 1) * per_seed.std(ddof=1) / np.sqrt(seeds))
    rng = np.random.default_rng(0)
    of_seeds = rng.multinomial(seeds, np.full(seeds, 1 / seeds), RESAMPLINGS) / seeds  # (resamplings, seeds)
    of_clips = rng.multinomial(clips, np.full(clips, 1 / clips), RESAMPLINGS) / clips  # (resamplings, clips)
    drawn = ((of_seeds @ gap) * of_clips).sum(axis=1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    mean = float(per_seed.mean())
    return Difference(mean=mean, by_seed=(mean - half, mean + half), by_clip=(float(low), float(high)))


def find(outcomes: Sequence[Outcome], arm: str, share: float) -> Outcome | None:
    return next((one for one in outcomes if (one.arm, one.share) == (arm, share)), None)


def table(outcomes: Sequence[Outcome], reference: str) -> str:
    """A Markdown table: a line an arm, a column a share; accuracy and the difference to the reference, in points."""
    shares = list(dict.fromkeys(one.share for one in outcomes))
    lines = ["| arm | " + " | ".join(f"{share:.0%} annotated" for share in shares) + " |"]
    lines.append("|---" * (len(shares) + 1) + "|")
    for arm in dict.fromkeys(one.arm for one in outcomes):
        cells = [_cell(find(outcomes, arm, share), find(outcomes, reference, share)) for share in shares]
        lines.append(f"| {arm} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(one: Outcome | None, reference: Outcome | None) -> str:
    if one is None:
        return "-"
    if reference is None or one is reference:
        return f"{100 * one.accuracy:.1f}"
    found = difference(one, reference)
    low, high = (100 * end for end in found.by_seed)
    return f"{100 * one.accuracy:.1f} ({100 * found.mean:+.1f}: {low:+.1f} to {high:+.1f})"


def as_json(outcomes: Sequence[Outcome], reference: str) -> list[dict]:
    """The table as plain numbers, both intervals included."""
    rows = []
    for one in outcomes:
        row = {"arm": one.arm, "share": one.share, "seeds": len(one.right), "accuracy": round(one.accuracy, 4)}
        other = find(outcomes, reference, one.share)
        if other is not None and other is not one:
            found = difference(one, other)
            ends = {"by_seed": found.by_seed, "by_clip": found.by_clip}
            row |= {"difference": round(found.mean, 4)} | {name: np.round(x, 4).tolist() for name, x in ends.items()}
        rows.append(row)
    return rows


def plot(outcomes: Sequence[Outcome], path: Path, *, teacher: float) -> None:
    """Accuracy over the annotated share, a line an arm, every seed a dot; the teacher as a dashed line."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(9, 5.5), layout="constrained")
    for arm in dict.fromkeys(one.arm for one in outcomes):
        of_arm = [one for one in outcomes if one.arm == arm and one.share > 0]
        if not of_arm:
            continue
        shares = [one.share for one in of_arm]
        (line,) = axes.plot(shares, [100 * one.accuracy for one in of_arm], label=arm)
        for one in of_arm:
            dots = 100 * one.right.mean(axis=1)
            axes.plot([one.share] * len(dots), dots, ".", color=line.get_color(), alpha=0.4)
    axes.axhline(100 * teacher, color="black", linestyle="--", linewidth=1, label="the teacher itself")
    axes.set_xscale("log")
    axes.set_xticks([0.02, 0.1, 0.5, 1.0], ["2 %", "10 %", "50 %", "100 %"], minor=False)
    axes.minorticks_off()
    axes.set(xlabel="share of the training clips that is annotated", ylabel="test clips right, %")
    axes.legend(fontsize=8, ncols=2)
    figure.savefig(path, dpi=150)
    pyplot.close(figure)
