"""Confidence: how sure the teacher was of each window, and of each class; collected in one pass over a store."""

import numpy as np

from softlabels.classes.class_list import Activation

HEARD = 0.5  # from this probability on, the teacher counts as hearing a class
_TINY = 1e-12


class Confidence:
    """What one pass over the probabilities says of windows and classes. Windows count as in `StoreIndex`.

    top: (windows,) float32, the highest probability, NaN where there is no label; top_class: (windows,) int32;
    entropy: (windows,) float32 nats: under sigmoid the sum over the classes, each yes or no by itself.
    heard: (classes,) int64 windows with 0.5 or more; best: (classes,) float32, the highest probability of each;
    best_window: (classes,) int64, where that was.
    """

    def __init__(self, windows: int, classes: int, activation: Activation) -> None:
        self._activation = activation
        self.top = np.full(windows, np.nan, np.float32)
        self.entropy = np.full(windows, np.nan, np.float32)
        self.top_class = np.zeros(windows, np.int32)
        self.heard = np.zeros(classes, np.int64)
        self.best = np.full(classes, -1, np.float32)
        self.best_window = np.zeros(classes, np.int64)

    def add(self, windows: np.ndarray, probabilities: np.ndarray) -> None:
        """windows: (n,) int64; probabilities: (n, classes) float32."""
        rows = np.arange(len(windows))
        top_class = probabilities.argmax(axis=1)
        self.top_class[windows] = top_class
        self.top[windows] = probabilities[rows, top_class]
        self.entropy[windows] = entropy(probabilities, self._activation)
        self.heard += (probabilities >= HEARD).sum(axis=0)
        row = probabilities.argmax(axis=0)  # (classes,)
        best = probabilities[row, np.arange(len(row))]
        better = best > self.best
        self.best[better], self.best_window[better] = best[better], windows[row[better]]


def entropy(probabilities: np.ndarray, activation: Activation) -> np.ndarray:
    """(n, classes) float32 -> (n,) float32 nats: of a distribution, or summed over independent classes."""
    p = np.maximum(probabilities, _TINY)
    nats = -p * np.log(p)
    if activation == "sigmoid":
        nats -= (1 - p) * np.log1p(-np.minimum(p, 1 - 1e-7))
    return nats.sum(axis=1)
