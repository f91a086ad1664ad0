"""Work done a little ahead of whoever waits for it, in threads, in order, in bounded memory."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any


def in_threads(function: Callable[..., Any], calls: Iterable[tuple], *, threads: int | None = None) -> Iterator[Any]:
    """The results of function(*call), in order; no more than two a thread are under way or waiting to be taken.

    Args:
      threads: how many; None is one a core.
    Raises: what a call raises, when its turn comes.
    """
    threads = threads or os.cpu_count() or 1
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque = deque()
        try:
            for call in calls:
                waiting.append(pool.submit(function, *call))
                if len(waiting) >= 2 * threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
