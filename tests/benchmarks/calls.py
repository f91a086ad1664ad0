"""The callers of the second corpus: pulse trains, trills, noise bursts, a drum, harmonic stacks, a wavering hoot.

Here: what each animal does, after published descriptions, one small function a class. Not here: how a pulse or a stack
is made (`call_sounds.py`), clips and files (`call_corpus.py`). No class and no recipe is shared with
`tests/corpus/songs.py`. A description names rhythm, rough pitch and timbre; the exact numbers are ours, within it, and
some differ from one individual to the next.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from call_sounds import (
    RATE_HZ,
    formants,
    glide,
    noise_band,
    place,
    shaped,
    stack,
    struck,
    train,
    vibrato,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Individual:
    """One animal in one clip. pitch multiplies hz, tempo divides the seconds of rhythm; rng draws the rest."""

    rng: np.random.Generator
    pitch: float
    tempo: float

    def tone(self, hz: tuple[float, ...], seconds: float, levels: tuple[float, ...] = (1.0,)) -> np.ndarray:
        """One smooth note through these pitches. Returns: (samples,) float64."""
        return shaped(stack(self.pitch * glide(hz, seconds), levels))

    def count(self, fewest: int, most: int) -> int:
        return int(self.rng.integers(fewest, most + 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """wave: (samples,) float64, repeated every `period_s` seconds; `short` of them make the shortest bout."""

    wave: np.ndarray
    period_s: float
    short: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """A class: file name part, label as BirdNET v2.4 writes it, its call."""

    slug: str
    label: str
    call: Callable[[Individual], Call]


def endless(wave: np.ndarray) -> Call:
    """A reel or churr without a pause: the next stretch begins where this one ends."""
    return Call(wave=wave, period_s=len(wave) / RATE_HZ)


def great_spotted_woodpecker(one: Individual) -> Call:
    """A drum: 10 to 16 blows on wood within 0.7 s, faster and weaker towards the end, some ten drums a minute.

    Follows: Zabka 1980, "Zur funktionellen Bedeutung der Instrumentallaute europaeischer Spechte".
    """
    blows = one.count(10, 16)
    onsets = np.cumsum([0, *np.linspace(0.058, 0.038, blows - 1)]) / one.tempo
    levels = np.interp(np.linspace(0, 1, blows), [0, 0.15, 1], [0.8, 1.0, 0.35])
    wood = stack(one.pitch * glide((650, 560), 0.04), (1, 0.5, 0.2))

    def blow() -> np.ndarray:
        knock = 0.6 * noise_band(len(wood), one.rng, centre_hz=1100 * one.pitch, width_hz=1200)
        return struck(knock + wood, decay_s=0.008)

    wave = place(((onset, level * blow()) for onset, level in zip(onsets, levels, strict=True)), onsets[-1] + 0.1)
    return Call(wave=wave, period_s=2.2 / one.tempo)


def american_toad(one: Individual) -> Call:
    """A long musical trill near 1.6 khz, some 33 pulses a second, for many seconds.

    Follows: Elliott, Gerhardt and Davidson 2009, The Frogs and Toads of North America.
    """
    pulse = one.tone((1580, 1600), 0.022, (1, 0.1))
    return endless(train(pulse, 40, 1 / (33 * one.tempo)))


def eurasian_nightjar(one: Individual) -> Call:
    """A churr that changes gear: some 27 pulses a second around 1.9 khz, then for half a second faster and lower.

    Close by, a pulse sweeps from 2.8 down to 1 khz; from afar, only the middle of it is left, and the teacher takes
    that for a toad. Ours are mostly far: one class that a teacher mistakes for another as a rule, as in any project.

    Follows: forestnightjars.co.uk, "The Outliers" (rates) and "Unusual Nightjar vocalisation" (span of a pulse).
    """
    reach = one.rng.uniform(0.01, 0.12)

    def gear(hz: float, rate_hz: float, seconds: float) -> np.ndarray:
        pulse = one.tone((hz * (1 + reach), hz * (1 - reach)), 0.02, (1, 0.2))
        return train(pulse, round(seconds * rate_hz), 1 / (rate_hz * one.tempo))

    return endless(np.concatenate([gear(1900, 27, one.rng.uniform(0.8, 1.3)), gear(1650, 33, 0.5)]))


def savis_warbler(one: Individual) -> Call:
    """A reel: a low insect's buzz near 4 khz, 50 short pulses a second, faster than the grasshopper warbler's.

    Follows: Cramp 1992, The Birds of the Western Palearctic 6.
    """
    pulse = shaped(stack(one.pitch * glide((4100, 3900), 0.012), (1,)), attack=0.2, release=0.6)
    return endless(train(pulse, 50, 1 / (50 * one.tempo)))


def snowy_tree_cricket(one: Individual) -> Call:
    """The thermometer cricket: chirps of eight pulses in groups of two, three and three near 2.9 khz, 2.5 a second.

    Follows: Walker, Singing Insects of North America, "snowy tree cricket".
    """
    pulse = one.tone((2900, 2880), 0.014, (1, 0.02))
    beats = np.array([0, 0.023, 0.052, 0.075, 0.098, 0.127, 0.15, 0.173]) / one.tempo
    return Call(wave=place(((beat, pulse) for beat in beats), beats[-1] + 0.03), period_s=0.4 / one.tempo, short=5)


def american_bullfrog(one: Individual) -> Call:
    """Jug-o-rum: croaks of 0.65 s, harmonics of some 100 hz with peaks near 220 and 1,300 hz and none between.

    Follows: Capranica 1965, The Evoked Vocal Response of the Bullfrog.
    """
    body = formants(100 * one.pitch, [(220, 80, 1), (1300, 350, one.rng.uniform(0.15, 0.5))], partials=24)
    croak = shaped(stack(one.pitch * glide((100, 105, 100), 0.65 / one.tempo), body), attack=0.3)
    return Call(wave=train(croak, 2, 0.95 / one.tempo, (0.7, 1)), period_s=1.9 / one.tempo)


def chipping_sparrow(one: Individual) -> Call:
    """A dry trill on one pitch: 20 to 30 steep chips from 6.5 down to 3.6 khz, some 13 a second.

    Follows: Cornell Lab of Ornithology, All About Birds, "Chipping Sparrow"; Liu and Kroodsma 1999.
    """
    chip = one.tone((6500, 4500, 3600, 4200), 0.05 / one.tempo)
    return Call(wave=train(chip, one.count(20, 30), 0.075 / one.tempo, (0.5, 1, 1, 0.9)), period_s=3.5 / one.tempo)


def dark_eyed_junco(one: Individual) -> Call:
    """A more musical trill, often taken for a chipping sparrow's: 12 to 18 notes, some 10 a second, 4 to 5.6 khz.

    Follows: Cornell Lab of Ornithology, All About Birds, "Dark-eyed Junco"; Konishi 1964.
    """
    note = one.tone((4400, 5600, 4000, 4600), 0.065 / one.tempo)
    return Call(wave=train(note, one.count(12, 18), 0.1 / one.tempo, (0.6, 1, 1, 0.9)), period_s=3.0 / one.tempo)


def tawny_owl(one: Individual) -> Call:
    """A drawn-out hoo, a pause, a short hu, then a wavering hoo-o-o-o near 800 hz.

    Follows: Robb and The Sound Approach 2015, Undiscovered Owls, "Tawny Owl".
    """
    hoo = one.tone((760, 850, 800, 720), 0.6 / one.tempo, (1, 0.1, 0.05))
    waver = vibrato(one.pitch * glide((780, 840, 780), 1.1 / one.tempo), rate_hz=13, depth=0.025)
    beat = 1 + 0.5 * np.sin(2 * np.pi * 13 * np.arange(len(waver)) / RATE_HZ)
    last = shaped(stack(waver, (1, 0.1, 0.05)), attack=0.3) * beat / 1.5
    hu = 0.6 * one.tone((780, 800), 0.1)
    notes = [(0, hoo), (0.9 / one.tempo, hu), (1.1 / one.tempo, last)]
    return Call(wave=place(notes, 2.3 / one.tempo), period_s=4.0 / one.tempo)


def corn_crake(one: Individual) -> Call:
    """Crex crex: two rasps a second, each some 15 clicks of noise between 2 and 6 khz.

    Follows: Budka and Osiejuk 2013, "Formant frequencies are acoustic cues to caller discrimination ...", Ethology.
    """

    def rasp(clicks: int) -> np.ndarray:
        click = noise_band(round(0.012 * RATE_HZ), one.rng, centre_hz=3800 * one.pitch, width_hz=4000)
        return train(struck(click, decay_s=0.003), clicks, 0.0115 / one.tempo, (0.4, 1, 0.9))

    notes = [(0, rasp(one.count(12, 16))), (0.3 / one.tempo, rasp(one.count(15, 20)))]
    return Call(wave=place(notes, 0.56 / one.tempo), period_s=1.0 / one.tempo, short=2)


CALLERS = (
    Caller(slug="woodpecker", label="Dendrocopos major_Great Spotted Woodpecker", call=great_spotted_woodpecker),
    Caller(slug="toad", label="Anaxyrus americanus_American Toad", call=american_toad),
    Caller(slug="nightjar", label="Caprimulgus europaeus_Eurasian Nightjar", call=eurasian_nightjar),
    Caller(slug="savis-warbler", label="Locustella luscinioides_Savi's Warbler", call=savis_warbler),
    Caller(slug="tree-cricket", label="Oecanthus fultoni_Snowy Tree Cricket", call=snowy_tree_cricket),
    Caller(slug="bullfrog", label="Lithobates catesbeianus_American Bullfrog", call=american_bullfrog),
    Caller(slug="chipping", label="Spizella passerina_Chipping Sparrow", call=chipping_sparrow),
    Caller(slug="junco", label="Junco hyemalis_Dark-eyed Junco", call=dark_eyed_junco),
    Caller(slug="tawny-owl", label="Strix aluco_Tawny Owl", call=tawny_owl),
    Caller(slug="corn-crake", label="Crex crex_Corn Crake", call=corn_crake),
)
