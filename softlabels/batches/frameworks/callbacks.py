"""Python that TensorFlow calls from threads of its own, which are gone before the interpreter is.

tf.data makes batches ahead in its own threads. One of them that asks for the interpreter's lock while the interpreter
ends never gets it, and whoever waits for that thread hangs or aborts. So at exit no call begins any more, and the
iterators that ask for them end, with their threads, while Python still runs.
"""

import atexit
import functools
import gc
import threading
from collections.abc import Callable
from typing import Any

import tensorflow as tf


class _Calls:
    """The calls of this process."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._running = 0
        self._used = self._over = False

    def __enter__(self) -> None:
        with self._changed:
            if self._over:
                raise RuntimeError("no batch is made any more: Python ends")
            self._used = True
            self._running += 1

    def __exit__(self, *error: object) -> None:
        with self._changed:
            self._running -= 1
            self._changed.notify_all()

    def end(self) -> None:
        """Turn calls away from now on, end the iterators, and wait for the calls under way."""
        with self._changed:
            self._over = True
        if self._used:
            _end_iterators()
        with self._changed:
            self._changed.wait_for(lambda: not self._running)


def _end_iterators() -> None:
    """Take from each iterator of tf.data the resource it holds: its threads are waited for where that is freed."""
    for iterator in [found for found in gc.get_objects() if issubclass(type(found), tf.data.Iterator)]:
        vars(iterator).clear()


_calls = _Calls()
atexit.register(_calls.end)  # runs before what TensorFlow, imported above, has registered: last come, first served


def call_python(function: Callable[..., Any], arguments: list[tf.Tensor], types: Any, *, stateful: bool = True) -> Any:
    """`tf.numpy_function` of a function that is called no more once Python ends."""

    @tf.autograph.experimental.do_not_convert  # or each call runs what AutoGraph makes of us, down to NumPy
    @functools.wraps(function)
    def called(*values: object) -> Any:
        with _calls:
            return function(*values)

    return tf.numpy_function(called, arguments, types, stateful=stateful)
