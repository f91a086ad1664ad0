"""A second corpus, independent of the songs: choices are made on it, so that the songs can report.

    python tests/benchmarks/call_corpus.py FOLDER [CLIPS]     make one, print what BirdNET makes of each class

Here: clips and their settings, files, the store. Not here: what the animals do (`calls.py`). A clip is a pure function
of (class, seed, settings); echo, backgrounds and int16 are those of `tests/corpus/`.
"""

import csv
import shutil
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import soundfile
from calls import CALLERS, Caller, Individual
from song_corpus import LabelledCorpus

import pipeline

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "corpus"))
from make_corpus import COLUMNS, HARD, Settings, backdrop
from sounds import RATE_HZ, add_at, echo

TRAIN = replace(HARD, pitch=(0.92, 1.08), tempo=(0.8, 1.25), peak=(0.02, 0.2), noise_rms=(0.002, 0.012))
TEST = replace(TRAIN, peak=(0.02, 0.12), noise_rms=(0.005, 0.03), backgrounds=3)  # 6 dB and a background worse
LONG = replace(TRAIN, seconds=20.0, one_song=True)  # one short bout somewhere: a weak label


@dataclass(frozen=True, slots=True, kw_only=True)
class CallCorpus:
    """What a corpus is made of; its folder under the work folder is called `name`. As `SongCorpus`, but all classes.

    clips: number of clips, callers and noise in turn; seed: another one gives other clips; settings: how they vary.
    jitters: as `softlabels run --jitters`.
    store: name of the store in the folder, "" for one named by `jitters`; a finished one is left alone.
    """

    name: str
    clips: int
    seed: int
    settings: Settings = TRAIN
    jitters: int = 1
    store: str = ""

    def make(self, work: Path) -> LabelledCorpus:
        """Synthesise and label what is not there yet; the store keeps all of BirdNET's classes."""
        folder = work / self.name
        if not (folder / "data_manifest.csv").exists():
            shutil.rmtree(folder, ignore_errors=True)
            write_clips(folder, self.clips, seed=self.seed, settings=self.settings)
        corpus = LabelledCorpus(folder=folder, store=self.store or f"soft_labels_{self.jitters}")
        if not list((folder / corpus.store).glob("_SUCCESS-*.json")):
            labelling = pipeline.LabelOptions(jitters=self.jitters)
            pipeline.run(corpus.manifest, folder / corpus.store, labelling=labelling)
        return corpus


def bout(caller: Caller, rng: np.random.Generator, settings: Settings) -> np.ndarray:
    """One individual, dry: one short bout anywhere, or from the first half second to the end. Returns: (samples,)."""
    one = Individual(rng=rng, pitch=rng.uniform(*settings.pitch), tempo=rng.uniform(*settings.tempo))
    call = caller.call(one)
    line = np.zeros(round(settings.seconds * RATE_HZ))
    step = round(call.period_s * RATE_HZ)
    spare = max(1, len(line) - (call.short - 1) * step - len(call.wave))
    start = int(rng.integers(0, spare if settings.one_song else min(spare, RATE_HZ // 2)))
    stop = start + call.short * step if settings.one_song else len(line)
    for onset in range(start, stop, step):
        endless = step == len(call.wave)
        if onset == start or endless or onset + len(call.wave) <= len(line):
            add_at(line, rng.uniform(0.85, 1.0) * call.wave, onset)
    return line


def synthesise(caller: Caller | None, seed: tuple[int, ...], settings: Settings) -> np.ndarray:
    """The sound of one clip: a caller with echo over backgrounds; None is backgrounds alone, three times as loud.

    The last number of the seed takes the kinds of background in turn, the whole seed draws the rest.

    Returns: (samples,) int16 at `RATE_HZ`.
    """
    rng = np.random.Generator(np.random.PCG64(list(seed)))
    mix = backdrop(seed, rng, settings)  # (samples,)
    if caller is None:
        mix *= 3
    else:
        dry = bout(caller, rng, settings)
        wet = echo(dry, rng, level=rng.uniform(*settings.echo_level), decay_s=rng.uniform(0.05, 0.15))
        mix += wet * (rng.uniform(*settings.peak) / np.max(np.abs(wet)))
    return np.rint(np.clip(mix, -0.999, 0.999) * 32767).astype(np.int16)


def write_clips(root: Path, count: int, *, seed: int, settings: Settings) -> None:
    """`count` clips, callers and noise in turn, the class list and the manifest, laid out as those of the songs."""
    (root / "audio").mkdir(parents=True, exist_ok=True)
    kinds = (*CALLERS, None)
    digits = max(2, len(str(-(-count // len(kinds)))))
    rows = []
    for index in range(count):
        number, kind = divmod(index, len(kinds))
        caller = kinds[kind]
        slug, label = (caller.slug, caller.label) if caller else ("noise", "noise")
        clip_id = f"{slug}-{number + 1:0{digits}d}"
        path = f"audio/{clip_id}.flac"
        soundfile.write(root / path, synthesise(caller, (seed, kind, number), settings), RATE_HZ, subtype="PCM_16")
        rows.append((clip_id, path, label, "test" if number % 3 == 2 else "train", number % 5))
    classes = "".join(f"{label}\n" for label in sorted(caller.label for caller in CALLERS))
    (root / "audio/classes.txt").write_text(classes, encoding="utf-8", newline="\n")
    with (root / "data_manifest.csv").open("w", encoding="utf-8", newline="") as file:  # last: it says all is there
        csv.writer(file, lineterminator="\n").writerows([COLUMNS, *sorted(rows)])


def print_classes(corpus: LabelledCorpus) -> None:
    """What the teacher makes of every class: top among them, its own mean probability, what it is taken for."""
    labels = corpus.join(windows="max")
    hard, soft = labels.hard(), labels.soft()  # (clips, classes) each
    names = [name.split("_")[1] for name in labels.classes]
    calling = hard.max(axis=1) == 1
    truth, top = hard.argmax(axis=1), soft.argmax(axis=1)
    print("| class | top of ten | mean probability | most often |")
    for own, name in enumerate(names):
        clips = calling & (truth == own)
        most = names[np.bincount(top[clips], minlength=len(names)).argmax()]
        print(f"| {name} | {np.mean(top[clips] == own):.2f} | {soft[clips, own].mean():.3f} | {most} |")
    print(f"| all | {np.mean((top == truth)[calling]):.2f} | {soft[calling, truth[calling]].mean():.3f} | |")
    print(f"| noise, mean of the loudest class | | {soft[~calling].max(axis=1).mean():.3f} | |")


if __name__ == "__main__":
    work, clips = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 330
    for name, settings in (("train", TRAIN), ("test", TEST), ("long", LONG)):
        began = time.perf_counter()
        write_clips(work / name, clips, seed=1, settings=settings)
        print(f"{name}: {1000 * (time.perf_counter() - began) / clips:.1f} ms a clip to synthesise and write")
        print_classes(CallCorpus(name=name, clips=clips, seed=1, settings=settings).make(work))
