"""Adaptation without students: random labels, what the report promises, time and memory.

    python tests/benchmarks/bench_adapt.py [--draws 200] [--truths 20] [--store STORE MANIFEST CLASSES]

Random labels: the annotated clips of a made world (tests/test_adapt.py) get each other's labels; how often is anything
taught? Truths: worlds with a known truth; the log-loss that the report gives, out of fold, against that of clips that
nobody annotated, in standard errors of their difference, as the mean over worlds. --store: time and peak memory of
`adapt()` on a store of your own, and with real components, random labels again. The last line is one JSON object.
"""

import argparse
import json
import logging
import sys
import time
import tracemalloc
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from test_adapt import CLASSES, log_loss, taught, world

import softlabels

SCENARIOS: dict[str, dict] = {
    "as it is": {},
    "sure of itself": {"slope": 3.0},
    "unsure": {"slope": 0.3},
    "deaf": {"known": 0.0},
    "two classes swapped": {"swapped": True},
    "1 : 50": {"prevalence": 0.02, "rows": 6000},
    "1 : 1,000": {"prevalence": 0.001, "rows": 40_000, "annotated": 6000},
    "five annotated": {"annotated": 5},
    "one class only": {"only": 0},
    "balanced over a skewed pool": {"prevalence": 0.05, "rows": 8000, "balanced": True},
}


def random_labels(draws: int, annotated: int) -> int:
    """In how many draws anything is taught, to known classes or to one that the teacher lacks."""
    rng = np.random.default_rng(5)
    components, hard, soft, _ = world(rng, 2000)
    adopted = 0
    for _ in range(draws):
        row = np.sort(rng.choice(2000, annotated, replace=False))
        shuffled = hard.copy()
        shuffled[row] = hard[rng.permutation(row)]
        _, report, after = taught(rng, components, shuffled, soft, row, blind=(3,), rest=row[:0])
        adopted += report.used == "adapted" or not np.isnan(after[:, 3]).all()
    return adopted


def promise(
    worlds: int,
    *,
    rows: int = 3000,
    annotated: int = 300,
    swapped: bool = False,
    only: int | None = None,
    balanced: bool = False,
    **settings: float,
) -> dict[str, float]:
    """What the report gives and what clips show that nobody annotated, (10^-3 nats), and how far apart they are."""
    reported, shown, errors, before, used = [], [], [], [], []
    for seed in range(worlds):
        rng = np.random.default_rng(seed)
        components, hard, soft, _ = world(rng, rows, **settings)
        if swapped:
            soft = soft[:, [1, 0, 2, 3]]
        if only is not None:
            hard, soft = hard[:, [only]], soft[:, [only]]
        row = np.sort(rng.choice(rows, annotated, replace=False))
        if balanced:
            chosen = [np.flatnonzero(hard[:, c] == 1)[:60] for c in range(CLASSES)]
            row = np.unique(np.concatenate([*chosen, np.flatnonzero(hard.max(axis=1) == 0)[:60]]))
        rest = np.setdiff1d(np.arange(rows), row)
        _, report, after = taught(rng, components, hard, soft, row)
        used.append(report.used)
        found = log_loss(hard[rest], after[rest])
        before.append(log_loss(hard[rest], soft[rest]).mean())
        shown.append(found.mean())
        if report.after is not None:
            reported.append(report.after.log_loss)
            # of the annotated clips' mean, at the spread that clips have at large
            errors.append(found.var() * (1 / len(row) + 1 / len(rest)))
    adapted = float(np.mean(np.array(used) == "adapted"))
    result = {"raw": 1e3 * np.mean(before), "shown": 1e3 * np.mean(shown), "adapted": adapted}
    if reported:
        apart, one = np.mean(shown) - np.mean(reported), np.sqrt(np.mean(errors))
        result |= {"reported": 1e3 * np.mean(reported), "apart": apart / one, "of_mean": apart / one * np.sqrt(worlds)}
    return {name: round(float(value), 3) for name, value in result.items()}


def on_a_store(store: Path, manifest: Path, classes: Path) -> dict[str, float]:
    """Time of the first and the second `adapt()` and the peak of Python's memory."""
    labels = softlabels.open(store).join(manifest, classes=classes, canary=False)
    tracemalloc.start()
    start = time.perf_counter()
    report = labels.adapt().calibration
    first, peak = time.perf_counter() - start, tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    start = time.perf_counter()
    labels.adapt()
    print(report)
    return {"rows": len(labels), "first_s": first, "again_s": time.perf_counter() - start, "peak_mb": peak / 1e6}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--truths", type=int, default=20)
    parser.add_argument("--store", type=Path, nargs=3, metavar=("STORE", "MANIFEST", "CLASSES"))
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    results: dict[str, object] = {}
    for annotated in (33, 100, 300) if arguments.draws else ():
        results[f"random {annotated}"] = adopted = random_labels(arguments.draws, annotated)
        print(f"random labels of {annotated} clips: {adopted} of {arguments.draws} draws teach anything", flush=True)
    for name, settings in SCENARIOS.items() if arguments.truths else ():
        results[name] = found = promise(arguments.truths, **settings)
        print(f"{name:<28}{found}", flush=True)
    if arguments.store:
        results["store"] = on_a_store(*arguments.store)
    print(json.dumps(results))


if __name__ == "__main__":
    main()
