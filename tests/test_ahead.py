"""Work done ahead: in order, bounded, and with its errors where they belong."""

import threading
import time

import pytest

from softlabels.threads import in_threads, read_ahead


def test_items_come_in_order_and_no_more_are_made_than_asked_for() -> None:
    made: list[int] = []

    def items():
        for i in range(50):
            made.append(i)
            yield i

    taken = []
    for item in read_ahead(items(), depth=3):
        assert len(made) <= item + 5
        taken.append(item)
    assert taken == list(range(50))


def test_an_error_comes_after_the_items_before_it() -> None:
    def items():
        yield 1
        raise ValueError("the second")

    ahead = read_ahead(items(), depth=4)
    assert next(ahead) == 1
    with pytest.raises(ValueError, match="the second"):
        next(ahead)


def test_whoever_stops_early_leaves_no_thread_behind() -> None:
    before = threading.active_count()
    for item in read_ahead(iter(range(1000)), depth=4):
        if item == 3:
            break
    for result in in_threads(lambda i: i, ((i,) for i in range(1000)), threads=2):
        if result == 3:
            break
    assert threading.active_count() == before


def test_results_of_threads_come_in_order_and_few_at_a_time() -> None:
    running: list[int] = []
    most = 0

    def work(i: int) -> int:
        nonlocal most
        running.append(i)
        most = max(most, len(running))
        time.sleep(0.002 * (i % 3))
        running.remove(i)
        return i

    assert list(in_threads(work, ((i,) for i in range(40)), threads=3)) == list(range(40))
    assert 1 < most <= 3


def test_an_error_of_a_thread_comes_when_its_turn_comes() -> None:
    results = in_threads(lambda i: 1 // (i - 2), ((i,) for i in range(5)), threads=2)
    assert [next(results), next(results)] == [-1, -1]
    with pytest.raises(ZeroDivisionError):
        next(results)
