"""LiteRT's interpreter, opened in the one way that this project uses it: one thread, quiet, or a TeacherError."""

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from softlabels.errors import TeacherError


def check_litert() -> None:
    """Raises: TeacherError: LiteRT is not installed, as where it has no wheel."""
    try:
        import ai_edge_litert.interpreter  # noqa: F401
    except ImportError as e:
        raise TeacherError(
            f"BirdNET and other TFLite models need LiteRT (ai-edge-litert), which cannot be loaded here: {e}; it has "
            "wheels for Linux, Windows and Macs with Apple's own processors. Label on one of these, or take a `keras` "
            "or `onnx` teacher; reading a store and training need no LiteRT"
        ) from e


def open_interpreter(
    model: str,
    content: bytes,
    *,
    portable: bool = False,
    keep_all: bool = False,
    fit: Callable[[Any], None] = lambda interpreter: None,
) -> Any:
    """A TFLite model ready to run; -> ai_edge_litert.interpreter.Interpreter.

    Args:
      model: what to call it in an error.
      content: the bytes of the file.
      portable: LiteRT's own kernels, which give the same bits on every x86-64 CPU.
      keep_all: every tensor can be read after a run, not only the outputs; needs `portable`.
      fit: gives an open input its size, before memory is laid out for it.
    Raises: TeacherError: LiteRT cannot load it.
    """
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    resolver = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES if portable else OpResolverType.AUTO
    with _native_stderr() as printed:
        try:
            interpreter = Interpreter(
                model_content=content,
                num_threads=1,
                experimental_op_resolver_type=resolver,
                experimental_preserve_all_tensors=keep_all,
            )
            fit(interpreter)
            interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as e:
            raise TeacherError(f"model '{model}': LiteRT cannot load it: {e} {printed()}".rstrip()) from e
    return interpreter


def answer(interpreter: Any, windows: np.ndarray) -> np.ndarray:
    """What a model of one input and one output gives for a batch, as an array of its own."""
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], windows)
    interpreter.invoke()
    return output(interpreter, 0)


def output(interpreter: Any, number: int) -> np.ndarray:
    """What the last run gave for one of the outputs, as an array of its own."""
    return interpreter.get_tensor(interpreter.get_output_details()[number]["index"])


@contextlib.contextmanager
def _native_stderr() -> Iterator[Callable[[], str]]:
    """Hold back what native code prints (LiteRT greets on every load); yields a way to read it."""

    def printed() -> str:
        held.seek(0)
        return held.read().decode(errors="replace").strip()

    with tempfile.TemporaryFile() as held:
        stderr = os.dup(2)
        os.dup2(held.fileno(), 2)
        try:
            yield printed
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
