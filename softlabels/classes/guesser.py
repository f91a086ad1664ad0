"""Guessing which class of a list a name stands for, for a person to look at: by what people and tools do to names.

The guesses, in this order, each only where one class of the list fits:

how               finds                             by
spelling          Parus_major_Great_Tit             all letters; also with the halves swapped
scientific words  Parus_major_Kohlmeise             its first two words
common words      Parus_ater_Coal_Tit               the common half, or all words but the first two
code              norcar, norcar1_Rotkardinal       the letters of NORthern CARdinal, as eBird's codes are made
epithet           Parus caerulea_Blaumeise          the species, when the genus moved: caerulea = caeruleus
"""

import re
import unicodedata
from collections.abc import Collection, Iterator

from softlabels.classes.class_list import ClassList
from softlabels.classes.finder import is_species, unambiguous

# What eBird's codes make of colours, beside their first letters: blkpho Black Phoebe, bkcchi Black-capped Chickadee.
_COLOURS = {"black": ("blk", "bk"), "brown": ("brn", "bn"), "gray": ("gry", "gy"), "green": ("grn", "gn")}


class ClassGuesser:
    """Guesses names; see the module for how."""

    def __init__(self, classes: ClassList) -> None:
        halves = [(scientific, common) for scientific, _, common in (name.partition("_") for name in classes)]
        self._spelling = unambiguous(
            (key, i) for i, (a, b) in enumerate(halves) for key in (_letters(a + b), _letters(b + a))
        )
        self._scientific = unambiguous((_letters(scientific), i) for i, (scientific, _) in enumerate(halves))
        self._common = unambiguous((_letters(common), i) for i, (_, common) in enumerate(halves))
        self._codes = unambiguous((code, i) for i, (_, common) in enumerate(halves) for code in set(_codes(common)))
        self._epithets = unambiguous((_epithet(scientific), i) for i, (scientific, _) in enumerate(halves))

    def guess(self, name: str) -> tuple[int, str] | None:
        """(position, how) of a name in the list, or None."""
        before, _, after = name.partition("_")
        words = _words(name)
        tries = (
            ("spelling", self._spelling, "".join(words)),
            ("scientific words", self._scientific, "".join(words[:2])),
            ("common words", self._common, _letters(after)),
            ("common words", self._common, "".join(words[2:])),
            ("common words", self._common, "".join(words)),
            ("code", self._codes, _as_code(before)),
            ("code", self._codes, _as_code(after)),
            ("epithet", self._epithets, _epithet(before if " " in before else name)),
        )
        return next(((table[key], how) for how, table, key in tries if key in table), None)


def likely_classes(names: Collection[str], classes: ClassList) -> dict[str, str]:
    """What names that are not found most likely are, in words; those of which nothing can be told are left out."""
    guesser, likely = ClassGuesser(classes) if names else None, {}
    for name in names:
        guess = guesser and guesser.guess(name)
        if guess and guess[1] != "epithet" and is_species(classes[guess[0]]):  # many genera; dog_bark is no wolf_bark
            likely[name] = f"most likely {classes[guess[0]]!r}, by its {guess[1]}"
    return likely


def _words(name: str) -> list[str]:
    """Words of letters and digits, without accents and case."""
    plain = unicodedata.normalize("NFKD", name.casefold())
    plain = "".join(c for c in plain if not unicodedata.combining(c) and c not in "'’")  # noqa: RUF001
    return re.findall(r"[^\W_]+", plain)


def _letters(name: str) -> str:
    return "".join(_words(name))


def _epithet(scientific: str) -> str:
    """The second word without its gender: caerulea, caeruleus and caeruleum are one; "" if there is none."""
    words = _words(scientific)
    return re.sub("(us|a|um)$", "", words[1]) if len(words) > 1 else ""


def _as_code(text: str) -> str:
    """`norcar1` -> `norcar`; "" if the text does not look like an eBird code."""
    found = re.fullmatch(r"([a-z]{6})\d?", text.strip().casefold())
    return found[1] if found else ""


def _codes(common: str) -> Iterator[str]:
    """The six-letter codes that a name may have: NORthern CARdinal, GReat Horned OWL, Black-Crowned Night-HERon."""
    words = _words(common)
    if len(words) == 1:
        yield words[0][:6]
    elif len(words) == 2:
        yield from (start + words[1][:3] for start in _shortened(words[0], 3))
    elif len(words) == 3:
        yield from (start + words[1][:1] + words[2][:3] for start in _shortened(words[0], 2))
    elif words:
        yield words[0][:1] + words[1][:1] + words[2][:1] + words[-1][:3]


def _shortened(word: str, letters: int) -> Iterator[str]:
    yield word[:letters]
    yield from (short for short in _COLOURS.get(word, ()) if len(short) == letters)
