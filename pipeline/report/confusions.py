"""Confusions: what else the teacher scores where one class is on top; the dark knowledge, as a small ordered matrix."""

from collections import Counter
from dataclasses import dataclass

import numpy as np

ROWS, COLUMNS = 16, 24  # classes shown
_PARTNERS = 12  # of a window, the classes that are kept
_SURE = 0.1  # windows whose top class has less are nobody's


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfusionMatrix:
    """mean: (rows, columns) float64, the mean probability of a column's class where a row's class is the top one.

    rows, columns: positions in the class list, similar rows side by side, the columns in the rows' order and then the
    classes that are only ever second; windows: (rows,) how many each row is the mean of.
    """

    rows: tuple[int, ...]
    columns: tuple[int, ...]
    windows: tuple[int, ...]
    mean: np.ndarray


class Confusions:
    """Sums up, window by window, the probabilities beside the highest one; memory grows with the pairs that occur."""

    def __init__(self, classes: int) -> None:
        self._classes = classes
        self._windows: Counter[int] = Counter()
        self._sums: Counter[int] = Counter()  # top class * classes + other class -> sum of probabilities

    def add(self, _windows: np.ndarray, probabilities: np.ndarray) -> None:
        """probabilities: (n, classes) float32."""
        kept = min(_PARTNERS, self._classes)
        partners = np.argpartition(-probabilities, kept - 1, axis=1)[:, :kept]  # (n, kept)
        p = np.take_along_axis(probabilities, partners, axis=1).astype(np.float64)
        sure = p.max(axis=1) >= _SURE
        partners, p = partners[sure].astype(np.int64), p[sure]
        top = np.take_along_axis(partners, p.argmax(axis=1)[:, None], axis=1)  # (sure, 1)
        self._windows.update(top[:, 0].tolist())
        pairs, which = np.unique(top * self._classes + partners, return_inverse=True)
        self._sums.update(dict(zip(pairs.tolist(), np.bincount(which.ravel(), p.ravel()).tolist(), strict=True)))

    def matrix(self) -> ConfusionMatrix | None:
        """The classes that are most often on top, and what else is scored with them; None if nothing ever is sure."""
        rows = [c for c, _ in self._windows.most_common(ROWS)]
        if not rows:
            return None
        mean = np.zeros((len(rows), self._classes))
        position = {c: i for i, c in enumerate(rows)}
        for pair, total in self._sums.items():
            top, other = divmod(pair, self._classes)
            if top in position:
                mean[position[top], other] = total / self._windows[top]
        order = leaf_order(mean)
        rows, mean = [rows[i] for i in order], mean[order]
        others = [c for c in np.argsort(-mean.max(axis=0), kind="stable")[:COLUMNS].tolist() if c not in position]
        others = [c for c in others if mean[:, c].any()][: COLUMNS - len(rows)]
        columns = rows + sorted(others, key=lambda c: int(mean[:, c].argmax()))
        return ConfusionMatrix(
            rows=tuple(rows),
            columns=tuple(columns),
            windows=tuple(self._windows[c] for c in rows),
            mean=mean[:, columns],
        )


def leaf_order(rows: np.ndarray) -> list[int]:
    """An order of the rows that puts similar ones side by side: agglomerative clustering, average linkage, cosine.

    scipy's leaf order lays 16 rows out 1 % further apart, and would be one more package to install.

    Args:
      rows: (n, columns), none of them all zero. Each merge is laid so that the nearest ends meet.
    """
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    distance = 1 - unit @ unit.T  # (n, n)
    groups = [[i] for i in range(len(rows))]
    while len(groups) > 1:
        pairs = [(a, b) for a in range(len(groups)) for b in range(a + 1, len(groups))]
        a, b = min(pairs, key=lambda ab: distance[np.ix_(groups[ab[0]], groups[ab[1]])].mean())
        left, right = groups[a], groups.pop(b)
        turned = [(x, y) for x in (left, left[::-1]) for y in (right, right[::-1])]
        first, second = min(turned, key=lambda xy: distance[xy[0][-1], xy[1][0]])
        groups[a] = first + second
    return groups[0]
