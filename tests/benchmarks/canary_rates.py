"""How often the alignment canary is right, over simulated joins with a known truth.

    python tests/benchmarks/canary_rates.py [--draws 100] [--only TEXT]

Right joins must not be refused (four times as many draws, for that is to be seldom); wrong ones with a strong teacher
must be, and nothing wrong may pass as aligned. "permuted" is the mean of the estimated shares of permuted rows.
"""

import argparse
import platform
import sys
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from canary_cases import RIGHT, WRONG_ALL, WRONG_IN_PART, WRONG_WEAK, Case, permuted, spoiled, strong

from softlabels.evidence.canary import alignment_canary

ROWS = {  # which the README names
    f"{share:.0%} permuted, {classes} classes, {rows} rows": spoiled(
        partial(strong, rows=rows, classes=classes), permuted(share)
    )
    for share, classes, rows in ((1, 8, 320), (1, 2, 2400), (0.3, 8, 300), (0.3, 2, 600))
}
VERDICTS = ("aligned", "not convinced", "misaligned", "not testable")


def main() -> None:
    """Print one line a case: how often each verdict, and the estimated share of permuted rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=100)
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    print(f"{platform.machine()}, numpy {np.__version__}, {options.draws} draws, right ones four times that")
    print(f"{'case':<48}" + "".join(f"{name:>15}" for name in VERDICTS) + f"{'permuted':>10}{'ms':>6}")
    for title, cases in {
        "right": RIGHT,
        "wrong": WRONG_ALL,
        "wrong in part": WRONG_IN_PART,
        "wrong, weak teacher": WRONG_WEAK,
        "rows that it takes": ROWS,
    }.items():
        print(f"-- {title}")
        for name, case in cases.items():
            if options.only in name:
                report(name, case, options.draws * (4 if title == "right" else 1))


def report(name: str, case: Callable[[int], Case], draws: int) -> None:
    """One line."""
    verdicts, shares, began = Counter[str](), [], time.perf_counter()
    for seed in range(draws):
        soft, hard, groups = case(seed)
        canary = alignment_canary(soft, hard, groups=groups, seed=seed)
        verdicts[canary.verdict] += 1
        if canary.answers and canary.answers.permuted:
            shares.append(canary.answers.permuted[0])
    share = f"{np.mean(shares):.0%}" if shares else "-"
    took = (time.perf_counter() - began) / draws * 1000
    print(f"{name:<48}" + "".join(f"{verdicts[v] / draws:>15.1%}" for v in VERDICTS) + f"{share:>10}{took:>6.0f}")


if __name__ == "__main__":
    main()
