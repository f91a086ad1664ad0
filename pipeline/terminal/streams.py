"""stdout and stderr while a command runs: they may be closed, broken or full, and the work goes on all the same.

stream  broken pipe (`| head`)     full disk, I/O error            closed before the start (`>&-`)
stdout  the rest is dropped        exit 3, once the work is done   nothing is printed
stderr  the rest is dropped        what fits is written            nothing is printed

Ours have descriptors of their own, so that those of all others can be led elsewhere: TensorFlow and LiteRT print from
native code, loky's workers their tracebacks, and a teacher of somebody's own prints what it likes.
"""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any, TextIO, cast

from softlabels.errors import EnvironmentTrouble
from softlabels.platforms import c_function


@contextlib.contextmanager
def lenient_streams() -> Iterator[Callable[[], None]]:
    """Let `sys.stdout` and `sys.stderr` never stop a command.

    Gives what is to be called last, inside the block. Raises there: EnvironmentTrouble: not all of the output could be
    written to stdout.
    """
    _open_closed()
    with contextlib.ExitStack() as stack:
        out, err = (_Lenient(_of_our_own(each, stack)) for each in (sys.stdout, sys.stderr))
        stack.enter_context(contextlib.redirect_stdout(cast(TextIO, out)))
        stack.enter_context(contextlib.redirect_stderr(cast(TextIO, err)))
        try:
            yield out.end
        finally:
            for each in (out, err):
                with contextlib.suppress(EnvironmentTrouble):
                    each.end()


@contextlib.contextmanager
def others_silent(*, verbose: bool) -> Iterator[None]:
    """Let native code and workers write nothing to stdout and stderr; verbose: let them write to stderr, all of it."""
    with contextlib.ExitStack() as stack:
        where = os.dup(2) if verbose else os.open(os.devnull, os.O_WRONLY)
        stack.callback(os.close, where)
        for number in (1, 2):
            before = os.dup(number)
            stack.callback(os.close, before)
            os.dup2(where, number)
            stack.callback(os.dup2, before, number)
        yield
        if flush := c_function("fflush"):
            flush(None)  # what it holds back still goes there


def _of_our_own(stream: TextIO | None, stack: contextlib.ExitStack) -> TextIO:
    """The same stream on another descriptor; one that is no descriptor of this process (a test's) as it is."""
    if stream is None:
        return stack.enter_context(open(os.devnull, "w", encoding="utf-8"))
    try:
        stream.flush()
        descriptor = os.dup(stream.fileno())
    except (OSError, ValueError, AttributeError):
        return stream
    by_lines = getattr(stream, "line_buffering", True)
    return stack.enter_context(open(descriptor, "w", buffering=1 if by_lines else -1, encoding=stream.encoding))


class _Lenient:
    """A stream whose trouble waits until it is asked for."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._trouble: OSError | None = None
        with contextlib.suppress(AttributeError, ValueError):  # a stream of somebody else's
            stream.reconfigure(errors="backslashreplace")  # type: ignore[attr-defined]  # of TextIOWrapper

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        with self._noting_trouble():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with self._noting_trouble():
            self._stream.flush()

    def end(self) -> None:
        """Flush. Raises: EnvironmentTrouble: something could not be written, other than to a reader who left."""
        self.flush()
        trouble, self._trouble = self._trouble, None
        if trouble is None:
            return
        with contextlib.suppress(OSError, ValueError, AttributeError):  # or Python tries again, and exits with 120
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)
        if not isinstance(trouble, BrokenPipeError):
            raise EnvironmentTrouble(f"the output could not be written in full: {trouble.strerror}; the work is done")

    @contextlib.contextmanager
    def _noting_trouble(self) -> Iterator[None]:
        try:
            yield
        except OSError as e:
            self._trouble = e


def _open_closed() -> None:
    """Open what was closed before the start: else the next file that is opened, a shard's, takes what is printed."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
