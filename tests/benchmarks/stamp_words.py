"""Spoken words of tuxpaint-stamps: a Debian package of stamps for children, each with its name in several languages.

7,190 clips, one or a few unknown voices a language, of which some 6,300 differ; the file's name gives thing and
language, a text file beside it the words. Debian's `tuxpaint-stamps-default`, GPL-2; read where it was unpacked
(`dpkg-deb -x tuxpaint-stamps-default_*.deb FOLDER`), never part of this repository.
"""

import hashlib
import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr

NAME = re.compile(r"(.+)_desc_([a-z]{2})\.ogg")
QUIET = 0.02  # of the peak: what is quieter before and after a word is cut off


@dataclass(frozen=True, slots=True, kw_only=True)
class Word:
    """One recording: what was said, in which language, (samples,) float32 trimmed to the word, and its sha256."""

    thing: str
    language: str
    text: str
    samples: np.ndarray
    sha256: str


def read_words(stamps: Path, *, rate_hz: int, longest_s: float) -> list[Word]:
    """All different words of up to `longest_s`, at `rate_hz`, sorted by path; equal audio counts once, its first text.

    Args:
      stamps: the folder that the package was unpacked to.
    Raises: ValueError: there is not one clip in it.
    """
    words: dict[str, Word] = {}
    for path in sorted(stamps.rglob("*_desc_*.ogg")):
        found = NAME.fullmatch(path.name)
        text = _text(path.with_name(f"{found[1]}.txt"), found[2]) if found else ""
        if not text:
            continue
        samples, recorded_hz = soundfile.read(path, dtype="float32", always_2d=True)  # (frames, channels)
        digest = hashlib.sha256(samples.tobytes()).hexdigest()
        word = trimmed(soxr.resample(samples.mean(axis=1), recorded_hz, rate_hz).astype(np.float32))
        if digest not in words and 0 < len(word) <= longest_s * rate_hz:
            words[digest] = Word(thing=found[1], language=found[2], text=text, samples=word, sha256=digest)
    if not words:
        raise ValueError(
            f"{stamps}: expected the unpacked tuxpaint-stamps-default, found no *_desc_*.ogg with its text"
        )
    return list(words.values())


def _text(path: Path, language: str) -> str:
    """The words in a language, as the stamp's text file has them; empty if it has not."""
    if not path.exists():
        return ""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return next((line.partition("=")[2].strip() for line in lines if line.startswith(f"{language}.utf8=")), "")


def trimmed(samples: np.ndarray) -> np.ndarray:
    """(samples,) from the first to the last that is not quiet; none at all of a silent clip."""
    loud = np.flatnonzero(np.abs(samples) > max(QUIET * np.abs(samples).max(initial=0), 1e-4))
    return samples[loud[0] : loud[-1] + 1] if len(loud) else samples[:0]


def letter_pairs(text: str) -> set[str]:
    """Neighbouring letters of a text, without accents and case: what a speller would hear in it."""
    plain = unicodedata.normalize("NFKD", text.lower())
    parts = re.findall(r"[^\W\d_]+", "".join(one for one in plain if not unicodedata.combining(one)))
    return {part[at : at + 2] for part in parts for at in range(len(part) - 1)}
