"""Synthesise the corpus of bird songs: the committed one, byte for byte, or a larger one for benchmarks.

    python tests/corpus/make_corpus.py                               the committed corpus, data_manifest.csv
    python tests/corpus/make_corpus.py --clips 800 --seed 7 -o DIR   800 others and DIR/data_manifest.csv
    python tests/corpus/make_corpus.py --clips 400 --hard -o DIR     more noise, lower level, wider variation
    python tests/corpus/make_corpus.py --clips 200 --long 15 -o DIR  15 s clips with one short song somewhere

A clip is a pure function of (species, seed, settings). Samples are computed in float64, where processors
differ in the last bit only (about 1e-16), and rounded to int16 (steps of 3e-5): the same on any x86-64.
FLAC is lossless and carries no metadata here; its bytes can depend on the version of libsndfile, its samples
cannot. The label of a clip is what was sung, so it is right even where a teacher is not.
"""

import argparse
import csv
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import soundfile
from songs import SPECIES, Song, Species
from sounds import BACKGROUNDS, RATE_HZ, add_at, background, echo, phrase

ROOT = Path(__file__).resolve().parents[2]
COLUMNS = ("clip_id", "path", "label", "split", "fold")
COMMITTED_SEED = 2024
CLIPS_A_SPECIES = 6
LONG_CLIPS = {("saw-whet", 5): 8.5, ("great-tit", 4): 10.0}  # (slug, number from 0): seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How clips vary. Pairs are (low, high) of a uniform draw.

    Args:
      seconds: length of the clip.
      one_song: True places one short song anywhere; False sings to the end from a start in the first half
        second, or in a clip of more than 5 s, at least 5 s before its end.
      pitch, tempo: factors on hz and on notes a second.
      peak: amplitude of the song, full scale 1.
      noise_rms: amplitude of each background, full scale 1.
      backgrounds: how many kinds of background sound at once.
      echo_level: amplitude of the reflections relative to the direct sound.
    """

    seconds: float = 3.0
    one_song: bool = False
    pitch: tuple[float, float] = (0.95, 1.05)
    tempo: tuple[float, float] = (0.88, 1.14)
    peak: tuple[float, float] = (0.08, 0.4)
    noise_rms: tuple[float, float] = (0.0002, 0.0008)
    backgrounds: int = 1
    echo_level: tuple[float, float] = (0.05, 0.25)


HARD = Settings(
    pitch=(0.93, 1.07),
    tempo=(0.8, 1.25),
    peak=(0.03, 0.15),
    noise_rms=(0.0015, 0.008),
    backgrounds=2,
    echo_level=(0.1, 0.4),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Clip:
    """One row of the manifest and what sounds in it: no species is noise. `seed` alone drives every draw."""

    clip_id: str
    species: tuple[Species, ...]
    label: str
    split: str
    fold: int
    seed: tuple[int, ...]
    settings: Settings


def sing(song: Song, rng: np.random.Generator, settings: Settings) -> np.ndarray:
    """The song of one individual. Returns: (samples,) float64, silence around the phrases, peak as drawn."""
    pitch, tempo = rng.uniform(*settings.pitch), rng.uniform(*settings.tempo)
    wave = phrase(song.phrase, pitch=pitch, tempo=tempo)  # (phrase samples,)
    line = np.zeros(round(settings.seconds * RATE_HZ))
    step = round(song.period_s / tempo * RATE_HZ)
    span = (song.short - 1) * step + len(wave) if settings.one_song else len(wave)
    spare = max(1, len(line) - span)
    early = round(max(0.5, settings.seconds - 5) * RATE_HZ)
    start = int(rng.integers(0, spare if settings.one_song else min(spare, early)))
    stop = start + song.short * step if settings.one_song else len(line)
    for onset in range(start, stop, step):
        if onset == start or onset + len(wave) <= len(line):
            add_at(line, rng.uniform(0.85, 1.0) * wave, onset)
    wet = echo(line, rng, level=rng.uniform(*settings.echo_level), decay_s=rng.uniform(0.05, 0.15))
    return wet * (rng.uniform(*settings.peak) / np.max(np.abs(wet)))


def backdrop(seed: Sequence[int], rng: np.random.Generator, settings: Settings) -> np.ndarray:
    """(samples,) float64: the backgrounds of a clip; the last number of the seed takes their kinds in turn."""
    mix = np.zeros(round(settings.seconds * RATE_HZ))
    for extra in range(settings.backgrounds):
        kind = BACKGROUNDS[(seed[-1] + extra) % len(BACKGROUNDS)]
        mix += rng.uniform(*settings.noise_rms) * background(kind, len(mix), rng)
    return mix


def synthesise(species: Sequence[Species], seed: Sequence[int], settings: Settings) -> np.ndarray:
    """The sound of one clip: any number of species over a background; none at all is a louder background.

    The last number of the seed takes the kinds of background in turn, the whole seed draws the rest.

    Returns: (samples,) int16 at `RATE_HZ`.
    """
    rng = np.random.Generator(np.random.PCG64(list(seed)))
    mix = backdrop(seed, rng, settings)  # (samples,)
    if not species:
        mix *= 3
    for one in species:
        mix += sing(one.song(), rng, settings)
    return np.rint(np.clip(mix, -0.999, 0.999) * 32767).astype(np.int16)


def numbered_clip(kind: int, number: int, *, seed: int, settings: Settings, digits: int = 2) -> Clip:
    """Clip `number` (from 0) of species `kind`; kind == len(SPECIES) is noise. Every third clip is `test`."""
    species = SPECIES[kind : kind + 1]
    return Clip(
        clip_id=f"{species[0].slug if species else 'noise'}-{number + 1:0{digits}d}",
        species=species,
        label=species[0].label if species else "noise",
        split="test" if number % 3 == 2 else "train",
        fold=number % 5,
        seed=(seed, kind, number),
        settings=settings,
    )


def committed_clips() -> list[Clip]:
    """Six clips a species (two are long), six of noise, one of two species, two that nobody annotated."""
    clips = []
    for kind in range(len(SPECIES) + 1):
        for number in range(CLIPS_A_SPECIES):
            slug = SPECIES[kind].slug if kind < len(SPECIES) else "noise"
            seconds = LONG_CLIPS.get((slug, number), 3.0)
            clips.append(numbered_clip(kind, number, seed=COMMITTED_SEED, settings=Settings(seconds=seconds)))
    chickadee, great_tit, pygmy_owl = (find_species(slug) for slug in ("chickadee", "great-tit", "pygmy-owl"))
    extra = numbered_clip(len(SPECIES), CLIPS_A_SPECIES, seed=COMMITTED_SEED, settings=Settings())
    both = replace(extra, clip_id="two-species-01", species=(great_tit, pygmy_owl))
    clips.append(replace(both, label=";".join(one.label for one in both.species)))
    silent = replace(extra, label="", species=(), clip_id="unannotated-02", seed=(COMMITTED_SEED, 99))
    clips.append(replace(silent, species=(chickadee,), clip_id="unannotated-01", seed=(COMMITTED_SEED, 98)))
    clips.append(silent)
    return clips


def find_species(slug: str) -> Species:
    """The species of that slug."""
    return next(one for one in SPECIES if one.slug == slug)


def benchmark_clips(count: int, *, seed: int, settings: Settings) -> list[Clip]:
    """`count` clips, species and noise in turn."""
    kinds = len(SPECIES) + 1
    digits = max(2, len(str(-(-count // kinds))))
    return [
        numbered_clip(index % kinds, index // kinds, seed=seed, settings=settings, digits=digits)
        for index in range(count)
    ]


def write_corpus(clips: Sequence[Clip], root: Path, folder: str) -> None:
    """Write `folder/*.flac`, `folder/classes.txt` and `data_manifest.csv` under `root`, sorted by clip_id."""
    (root / folder).mkdir(parents=True, exist_ok=True)
    rows = []
    for clip in sorted(clips, key=lambda clip: clip.clip_id):
        path = f"{folder}/{clip.clip_id}.flac"
        samples = synthesise(clip.species, clip.seed, clip.settings)
        soundfile.write(root / path, samples, RATE_HZ, subtype="PCM_16", format="FLAC")
        rows.append((clip.clip_id, path, clip.label, clip.split, clip.fold))
    classes = "".join(f"{label}\n" for label in sorted(one.label for one in SPECIES))
    (root / folder / "classes.txt").write_text(classes, encoding="utf-8", newline="\n")
    with (root / "data_manifest.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([COLUMNS, *rows])


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line; refuse options that need --clips without it."""
    parser = argparse.ArgumentParser(description="Synthesise the corpus of bird songs.")
    add = parser.add_argument
    add("-o", "--output", type=Path, metavar="DIR", help="root to write into (default: the repository)")
    add("--clips", type=int, metavar="N", help="N clips in place of the committed corpus; needs -o")
    add("--seed", type=int, default=1, metavar="S", help="seed of the N clips (default: 1)")
    add("--hard", action="store_true", help="more noise, lower level, wider variation")
    add("--long", type=float, metavar="SECONDS", help="clips this long with one short song somewhere")
    options = parser.parse_args(arguments)
    if options.clips is None and (options.hard or options.long is not None):
        parser.error("--hard and --long need --clips: the committed corpus is fixed")
    if options.clips is not None and (options.output is None or options.clips < 1 or options.seed < 0):
        parser.error(f"--clips needs -o DIR, N >= 1 and S >= 0, got N = {options.clips}, S = {options.seed}")
    if options.long is not None and not 3 <= options.long <= 3600:
        parser.error(f"--long: expected 3 to 3600 seconds, got {options.long}")
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the corpus that the command line asks for."""
    options = parse(arguments)
    root = ROOT if options.output is None else options.output
    if options.clips is None:
        clips, folder = committed_clips(), "tests/corpus"
    else:
        settings = HARD if options.hard else Settings()
        if options.long is not None:
            settings = replace(settings, seconds=options.long, one_song=True)
        clips, folder = benchmark_clips(options.clips, seed=options.seed, settings=settings), "audio"
    write_corpus(clips, root, folder)
    print(f"{len(clips)} clips in {root / folder}, listed in {root / 'data_manifest.csv'}")


if __name__ == "__main__":
    main()
