"""Windows of two teachers meet by time: the nearest centre in the same clip, if they share half of the shorter one."""

import numpy as np

_SLOT = 1 << 40  # microseconds a clip may last (12 days), so that clip and time are one number


def places(clip: np.ndarray, centre_s: np.ndarray | float) -> np.ndarray:
    """(windows,) int64: clip number and time as one number. centre_s: seconds in the file; 0 for a whole clip."""
    return clip.astype(np.int64) * _SLOT + np.rint(np.asarray(centre_s) * 1e6).astype(np.int64)


def meet(a: np.ndarray, b: np.ndarray, *, window_a_s: float, window_b_s: float) -> np.ndarray:
    """Which window of B each window of A meets.

    Args:
      a, b: their places; those of B ascend. window_a_s, window_b_s: how long the windows are; 0 for whole clips.
    Returns: (windows of A,) int64 positions in B, -1 where there is none. Of two that are equally near, the earlier.
    """
    if not len(b):
        return np.full(len(a), -1)
    after = np.searchsorted(b, a)
    before, after = np.maximum(after - 1, 0), np.minimum(after, len(b) - 1)
    nearest = np.where(a - b[before] <= np.abs(b[after] - a), before, after)
    apart_s = np.abs(b[nearest] - a) / 1e6  # of another clip: 12 days
    # Windows whose centres are d apart share (long + short) / 2 - d, which is half of the short one at d = long / 2.
    return np.where(apart_s <= max(window_a_s, window_b_s) / 2 + 1e-5, nearest, -1)
