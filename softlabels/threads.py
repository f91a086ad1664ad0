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


def read_ahead(items: Iterable[Any], *, depth: int) -> Iterator[Any]:
    """The items, in order; a thread makes up to `depth` of them while their taker is busy with those before.

    Raises: what making an item raises, when its turn comes.
    """
    source, end = iter(items), object()
    with ThreadPoolExecutor(1) as thread:
        waiting = deque(thread.submit(next, source, end) for _ in range(depth))
        try:
            while (item := waiting.popleft().result()) is not end:
                waiting.append(thread.submit(next, source, end))
                yield item
        finally:
            for future in waiting:
                future.cancel()
