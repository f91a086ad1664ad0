"""The songs of the corpus, as notes: what each species sings, after published descriptions.

Here: pitches in hz, durations in seconds, one small function a species. Not here: sound (`sounds.py`), files
(`make_corpus.py`). A description names the notes, their order, rhythm and rough pitch; the exact numbers are
ours, within it. The corpus varies pitch and tempo around them by seed.
"""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """One whistled note.

    Args:
      onset_s: seconds from the start of the phrase.
      duration_s: seconds.
      hz: pitches at equal steps from start to end, straight lines between them; a single one is a level note.
      level: amplitude relative to the loudest note, in (0, 1].
      overtones: amplitudes of the 2nd, 3rd ... harmonic relative to the fundamental.
    """

    onset_s: float
    duration_s: float
    hz: tuple[float, ...]
    level: float = 1.0
    overtones: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Song:
    """A phrase, repeated every `period_s` seconds; `short` phrases make the shortest bout worth the name."""

    phrase: tuple[Note, ...]
    period_s: float
    short: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Species:
    """A species: file name part, label (`Scientific name_Common name`, as BirdNET v2.4 writes it), song."""

    slug: str
    label: str
    song: Callable[[], Song]


def northern_saw_whet_owl() -> Song:
    """The advertising call: toots on one pitch near 1.1 khz, 0.1 s long, two a second, for minutes.

    Follows: Cornell Lab of Ornithology, All About Birds, "Northern Saw-whet Owl" (two toots a second).
    """
    toot = Note(onset_s=0.0, duration_s=0.1, hz=(1080, 1100), overtones=(0.02,))
    return Song(phrase=(toot,), period_s=0.5, short=4)


def black_capped_chickadee() -> Song:
    """Fee-bee: two clear tones, about 1 s in all; fee sags from 4 khz, bee is lower than either end of fee.

    Follows: Weisman et al. 1990, "Absolute and relative pitch production in the song of the black-capped
    chickadee"; Foote et al. 2010, The Birds of North America 39.
    """
    fee = Note(onset_s=0.0, duration_s=0.4, hz=(4000, 3850))
    bee = Note(onset_s=0.53, duration_s=0.42, hz=(3400, 3380))
    return Song(phrase=(fee, bee), period_s=2.6, short=1)


def great_tit() -> Song:
    """Tea-cher, tea-cher: a note falling from 5 khz, a lower one near 3.9 khz, twice a second or faster.

    Follows: the sonogram described at wildechoes.org, species "Great Tit".
    """
    tea = Note(onset_s=0.0, duration_s=0.13, hz=(5000, 4800))
    cher = Note(onset_s=0.19, duration_s=0.15, hz=(3900, 3800))
    return Song(phrase=(tea, cher), period_s=0.4, short=4)


def eurasian_pygmy_owl() -> Song:
    """A soft-edged beep every two seconds, high for an owl: 0.3 s at 1.42 khz.

    Follows: Robb and The Sound Approach 2015, Undiscovered Owls, "Eurasian Pygmy Owl".
    """
    return Song(phrase=(Note(onset_s=0.0, duration_s=0.3, hz=(1420,)),), period_s=2.0, short=2)


def white_throated_sparrow() -> Song:
    """Old Sam Peabody, Peabody: a long whistle, another a major third above, triplets on the second pitch.

    Follows: Cornell Lab of Ornithology, All About Birds, "White-throated Sparrow"; the interval: Wikipedia.
    """
    old = Note(onset_s=0.0, duration_s=0.5, hz=(3200,))
    sam = Note(onset_s=0.58, duration_s=0.5, hz=(4000, 3980))
    peabodies = [
        Note(onset_s=1.18 + 0.52 * triplet + 0.15 * part, duration_s=0.12, hz=(3980, 3960))
        for triplet in range(3)
        for part in range(3)
    ]
    return Song(phrase=(old, sam, *peabodies), period_s=6.0, short=1)


def common_cuckoo() -> Song:
    """Cuck-oo: two notes a major third apart, as in May (a minor third in April), every 1.3 s.

    Follows: Barrett 1897, "The Cuckoo's Notes", The Musical Times 38 (656), for the interval.
    """
    cuck = Note(onset_s=0.0, duration_s=0.12, hz=(675, 665), overtones=(0.05, 0.02))
    oo = Note(onset_s=0.33, duration_s=0.2, hz=(550, 540), overtones=(0.05, 0.02))
    return Song(phrase=(cuck, oo), period_s=1.3, short=2)


def eurasian_eagle_owl() -> Song:
    """A hoot of two notes slurred together, the first higher and louder than the second, every eight seconds.

    Follows: Robb and The Sound Approach 2015, Undiscovered Owls, "Eurasian Eagle-Owl".
    """
    first = Note(onset_s=0.0, duration_s=0.3, hz=(330, 355, 340), overtones=(0.1, 0.05))
    second = Note(onset_s=0.3, duration_s=0.25, hz=(310, 280), level=0.5, overtones=(0.1, 0.05))
    return Song(phrase=(first, second), period_s=8.0, short=1)


def eurasian_scops_owl() -> Song:
    """A toot near 1.3 khz every two and a half to three seconds, at times taken for a pygmy owl.

    Close by, a steep first descent tells it from the Eurasian Pygmy-Owl; far off, only the toot is left. We
    synthesise the far one, because a teacher in doubt between two classes is what soft labels are about.

    Follows: Robb and The Sound Approach 2015, Undiscovered Owls, "Eurasian Scops Owl".
    """
    return Song(phrase=(Note(onset_s=0.0, duration_s=0.28, hz=(1340, 1270)),), period_s=2.7, short=1)


def long_eared_owl() -> Song:
    """One deep smooth hoo, 0.4 s near 380 hz, every three seconds or so, at times taken for an eagle-owl.

    Follows: Robb and The Sound Approach 2015, Undiscovered Owls, "Long-eared Owl".
    """
    hoo = Note(onset_s=0.0, duration_s=0.4, hz=(380, 385, 370), overtones=(0.03,))
    return Song(phrase=(hoo,), period_s=2.8, short=1)


def eastern_wood_pewee() -> Song:
    """Pee-a-wee: a long slurred whistle, a short dip, a long rise, then seconds of silence.

    Follows: Elliott, musicofnature.com, "Twilight Song of the Wood-Pewee" (the daytime phrase).
    """
    pee = Note(onset_s=0.0, duration_s=0.35, hz=(3900, 4300))
    a = Note(onset_s=0.35, duration_s=0.17, hz=(3400, 3100, 3200))
    wee = Note(onset_s=0.53, duration_s=0.55, hz=(3300, 3700, 4400))
    return Song(phrase=(pee, a, wee), period_s=5.0, short=1)


SPECIES = (
    Species(slug="saw-whet", label="Aegolius acadicus_Northern Saw-whet Owl", song=northern_saw_whet_owl),
    Species(slug="chickadee", label="Poecile atricapillus_Black-capped Chickadee", song=black_capped_chickadee),
    Species(slug="great-tit", label="Parus major_Great Tit", song=great_tit),
    Species(slug="pygmy-owl", label="Glaucidium passerinum_Eurasian Pygmy-Owl", song=eurasian_pygmy_owl),
    Species(
        slug="white-throated",
        label="Zonotrichia albicollis_White-throated Sparrow",
        song=white_throated_sparrow,
    ),
    Species(slug="cuckoo", label="Cuculus canorus_Common Cuckoo", song=common_cuckoo),
    Species(slug="eagle-owl", label="Bubo bubo_Eurasian Eagle-Owl", song=eurasian_eagle_owl),
    Species(slug="scops-owl", label="Otus scops_Eurasian Scops-Owl", song=eurasian_scops_owl),
    Species(slug="long-eared", label="Asio otus_Long-eared Owl", song=long_eared_owl),
    Species(slug="wood-pewee", label="Contopus virens_Eastern Wood-Pewee", song=eastern_wood_pewee),
)
