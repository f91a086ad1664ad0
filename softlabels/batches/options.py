"""BatchOptions: what decides a stream of batches, apart from the labels; the keywords of `make_dataset`, checked once.

Not here: what only changes speed, such as `workers`.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

import numpy as np

from softlabels.windows import MAX_RATE_HZ

Features = Callable[[np.ndarray], np.ndarray]
Crops = Literal["random"]
Audio = Literal["cache", "cache-float32", "stream"]
Shuffle = bool | Literal["recordings"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BatchOptions:
    """The keywords of `make_dataset`, which explains them. Raises: ValueError: a value that makes no sense."""

    batch_size: int = 64
    features: Features | None = None
    rate_hz: int | None = None
    shuffle: Shuffle = False
    seed: int = 0
    sampling_weights: np.ndarray | None = None
    embedding: bool = False
    window_s: float | None = None
    crops: Crops | None = None
    upsample: float = 0.0
    audio: Audio | None = None
    keep_features: str | None = None

    @classmethod
    def among(cls, arguments: Mapping[str, Any]) -> "BatchOptions":
        """Those among the arguments of a function, which has them all under their names."""
        return cls(**{field.name: arguments[field.name] for field in fields(cls)})

    def __post_init__(self) -> None:
        for name in ("batch_size", "rate_hz", "seed", "window_s", "upsample"):
            value = getattr(self, name)
            if isinstance(value, np.number):  # JSON takes none of NumPy's, and 8 or 32 bits would overflow
                object.__setattr__(self, name, value.item())
        if not _is_whole(self.batch_size) or self.batch_size < 1:
            raise ValueError(f"batch_size: expected a whole number, 1 or more, got {self.batch_size!r}")
        if self.rate_hz is not None and not (_is_whole(self.rate_hz) and 1 <= self.rate_hz <= MAX_RATE_HZ):
            raise ValueError(f"rate_hz: expected a whole number from 1 to {MAX_RATE_HZ}, or None, got {self.rate_hz!r}")
        if not _is_whole(self.seed) or self.seed < 0:
            raise ValueError(f"seed: expected a whole number from 0 up, got {self.seed!r}")
        if self.shuffle not in (False, True, "recordings"):
            raise ValueError(f"shuffle: expected False, True or 'recordings', got {self.shuffle!r}")
        if self.window_s is not None and not (_is_number(self.window_s) and self.window_s > 0):
            raise ValueError(f"window_s: expected a number of seconds above 0, or None, got {self.window_s!r}")
        if self.crops is not None and self.crops not in get_args(Crops):
            raise ValueError(f"crops: expected 'random' or None, got {self.crops!r}")
        if self.audio is not None and self.audio not in get_args(Audio):
            raise ValueError(f"audio: expected {', '.join(map(repr, get_args(Audio)))} or None, got {self.audio!r}")
        self._check_keeping()
        if not (_is_number(self.upsample) and 0 <= self.upsample <= 1):
            raise ValueError(
                f"upsample: expected a number from 0 (rows as they are) to 1 (classes equally), got {self.upsample!r}"
            )

    def _check_keeping(self) -> None:
        keep = self.keep_features
        if keep is None:
            return
        if not isinstance(keep, str) or not keep:
            raise ValueError(f"keep_features: expected a version, a text such as 'log-mel 1', or None, got {keep!r}")
        if self.features is None:
            raise ValueError("keep_features: expected features=, a function whose arrays are kept, got None")
        if self.crops is not None:
            raise ValueError(f"keep_features: crops={self.crops!r} takes other sound in every epoch; keep none of it")


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
