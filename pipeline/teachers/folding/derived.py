"""Models derived from the user's own copy: made once, held against it, and kept in a cache. Never shipped.

$XDG_CACHE_HOME/softlabels/models/<digest of the source>-fold<version>-<digest of the derived model>.tflite
"""

import logging

import numpy as np

from pipeline.teachers.interpreter import answer, open_interpreter
from softlabels.digests import sha256_of_bytes
from softlabels.errors import StoreError, TeacherError
from softlabels.os_errors import told
from softlabels.storage.file_cache import user_folder
from softlabels.storage.local import LocalStorage

logger = logging.getLogger(__name__)
FOLDINGS = ("1", "2")  # as `versions` makes them: stores name theirs, so what one of them makes never changes
FOLDING = FOLDINGS[-1]
MOST_DIFFERENCE = 1e-3  # of a logit


def folded_model(model: str, content: bytes, folding: str = FOLDING, *, sha256: str | None = None) -> tuple[bytes, str]:
    """The folded model: from the cache, or derived now and checked.

    Args:
      model: what to call it in an error.
      content: the bytes of its file; sha256: of them, where it is known.
      folding: one of `FOLDINGS`.
    Returns: the bytes of the folded model, and the digest of what it computes, the same on every machine.
    Raises: TeacherError: it cannot be folded, or it answers differently when folded.
    """
    storage = LocalStorage(user_folder())
    prefix = f"{sha256 or sha256_of_bytes(content)}-fold{folding}-"
    kept = _find_kept(storage, prefix)
    if kept is not None:
        return kept
    derived, digest = _derive(model, content, folding)
    key = f"models/{prefix}{digest}-{sha256_of_bytes(derived)}.tflite"
    try:
        storage.put(key, derived)  # workers that start together write the same bytes
    except (OSError, StoreError) as e:
        logger.warning("the folded model cannot be kept and is made again each time: %s", told(e))
    return derived, digest


def _find_kept(storage: LocalStorage, prefix: str) -> tuple[bytes, str] | None:
    """The file made from this source whose bytes are still those in its name, and its digest."""
    try:
        for key in storage.list("models"):
            name = key.removeprefix("models/").removesuffix(".tflite")
            if name.startswith(prefix):
                content, (digest, _, sha256) = storage.get(key), name.removeprefix(prefix).partition("-")
                if sha256_of_bytes(content) == sha256:
                    return content, digest
    except OSError as e:
        logger.warning("the cache of folded models cannot be read: %s", told(e))
    return None


def _derive(model: str, content: bytes, folding: str) -> tuple[bytes, str]:
    """The file with as many rewrites of that version as hold: where its answers are others, the last is left out."""
    # Here, because the schema takes long to import and is seldom needed.
    from pipeline.teachers.folding.versions import STEPS, folded_bytes, folded_digest

    steps = STEPS[folding]
    while True:
        try:
            derived = folded_bytes(content, steps)
        except TeacherError as e:
            raise TeacherError(f"model '{model}': {e}; --no-fold takes the file as it is") from e
        try:
            hold_against(model, content, derived)
        except TeacherError:
            if not steps:
                raise
            steps = steps[:-1]
            continue
        return derived, folded_digest(derived, folding)


def hold_against(model: str, original: bytes, derived: bytes) -> None:
    """Let both models score the windows of `fixed_windows`.

    Raises: TeacherError: a logit is further off than `MOST_DIFFERENCE`, or another class is the highest.
    """
    ours, theirs = (open_interpreter(model, content) for content in (derived, original))
    samples = int(theirs.get_input_details()[0]["shape"][-1])
    for number, window in enumerate(fixed_windows(samples)):
        folded, expected = answer(ours, window[None]), answer(theirs, window[None])  # (1, classes)
        difference = float(np.abs(folded - expected).max())
        same_top = folded.argmax() == expected.argmax()
        if not (difference <= MOST_DIFFERENCE and same_top):  # NaN is no agreement
            top = "the same highest class" if same_top else "another highest class"
            raise TeacherError(
                f"model '{model}': expected the folded model to answer within {MOST_DIFFERENCE:g} of the file on "
                f"fixed window {number}, got a logit {difference:.2g} off and {top}; --no-fold takes the file as it is"
            )


def fixed_windows(samples: int) -> np.ndarray:
    """(12, samples) float32 in [-1, 1): 8 of quiet noise, loud noise, a click, a rising and a pulsed tone in noise."""
    random = np.random.Generator(np.random.PCG64(2024))
    quiet = random.integers(-8192, 8192, (8, samples)) / 32768  # as those of the numerics class
    loud = random.integers(-32768, 32768, samples) / 32768
    floor = random.integers(-64, 64, samples) / 32768
    phase = np.arange(samples) / samples  # 0 to 1
    click = np.where(np.arange(samples) == samples // 3, 0.99, floor)
    rising = 0.5 * np.sin(2 * np.pi * samples * phase * (0.02 + 0.05 * phase)) + floor
    pulsed = 0.3 * np.sin(2 * np.pi * samples * phase * 0.08) * (phase * 12 % 1 < 0.3) + floor
    return np.stack([*quiet, loud, click, rising, pulsed]).astype(np.float32)
