"""Log-odds of probabilities that are held away from 0 and 1, where they would be infinite."""

import numpy as np

EDGE = 2.0**-24  # float32 has both 2^-24 and 1 - 2^-24: log-odds of +-16.6


def log_odds(p: np.ndarray, *, least: float = EDGE) -> np.ndarray:
    """log(p / (1 - p)) of probabilities in [least, 1 - least]; what lies beyond counts as the nearer end."""
    held = np.clip(p, least, 1 - least)
    return np.log(held) - np.log1p(-held)
