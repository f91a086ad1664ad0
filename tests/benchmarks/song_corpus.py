"""Corpora of synthesised songs with the real BirdNET's labels, each made once under a folder and found again there.

Here: what a corpus is made of, its store, and manifests in which only some clips stay annotated. Not here: how a song
sounds (`tests/corpus/`), students (`students.py`).
"""

import csv
import shutil
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

import pipeline
import softlabels

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "corpus"))
from make_corpus import HARD, Settings, benchmark_clips, write_corpus

VARIED = replace(HARD, pitch=(0.9, 1.1), tempo=(0.7, 1.4), echo_level=(0.1, 0.6))
TRAIN = replace(VARIED, peak=(0.02, 0.2), noise_rms=(0.002, 0.012))
TEST = replace(VARIED, peak=(0.02, 0.12), noise_rms=(0.005, 0.03), backgrounds=3)  # 6 dB and a background worse


@dataclass(frozen=True, slots=True, kw_only=True)
class SongCorpus:
    """What a corpus is made of; its folder under the work folder is called `name`.

    clips: number of clips, species and noise in turn; seed: another one gives other clips; settings: how they vary.
    jitters, embedding: as `softlabels run --jitters --embedding`.
    """

    name: str
    clips: int
    seed: int
    settings: Settings
    jitters: int = 1
    embedding: bool = False

    def make(self, work: Path) -> "LabelledCorpus":
        """Synthesise and label what is not there yet."""
        folder = work / self.name
        if not (folder / "data_manifest.csv").exists():
            shutil.rmtree(folder, ignore_errors=True)
            write_corpus(benchmark_clips(self.clips, seed=self.seed, settings=self.settings), folder, "audio")
        store = f"soft_labels_{self.jitters}" + "_embedding" * self.embedding
        corpus, teacher = LabelledCorpus(folder=folder, store=store), pipeline.TeacherChoice(embedding=self.embedding)
        labelling = pipeline.LabelOptions(jitters=self.jitters)  # all classes: adaptation asks them all
        if not list((folder / corpus.store).glob("_SUCCESS-*.json")):
            pipeline.run(corpus.manifest, folder / corpus.store, teacher=teacher, labelling=labelling)
        return corpus


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledCorpus:
    """A folder with `data_manifest.csv`, a class list and a store, named relative to it."""

    folder: Path
    store: str
    class_file: str = "audio/classes.txt"

    @property
    def manifest(self) -> Path:
        return self.folder / "data_manifest.csv"

    @property
    def classes(self) -> Path:
        return self.folder / self.class_file

    def join(self, share: float = 1.0, seed: int = 0, **options) -> softlabels.JoinedLabels:
        """Labels of all clips, of which only a share is annotated: as many of each class, at least two.

        Args:
          share: in [0, 1]; seed: which ones stay annotated.
          options: of `SoftLabelStore.join`.
        """
        manifest = self.manifest if share == 1 else self._hide_labels(share, seed)
        store = softlabels.open(self.folder / self.store)
        return store.join(manifest, classes=self.classes, root=self.folder, **options)

    def _hide_labels(self, share: float, seed: int) -> Path:
        path = self.folder / f"annotated-{share:g}-{seed}.csv"
        with self.manifest.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        kept = annotated([row["label"] for row in rows], share, seed)
        for row, keep in zip(rows, kept, strict=True):
            row["label"] = row["label"] if keep else ""
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, rows[0].keys(), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        return path


def annotated(labels: list[str], share: float, seed: int) -> np.ndarray:
    """(clips,) bool: the same share of every label, drawn by seed; none at all where share is 0."""
    rng = np.random.default_rng([seed, round(1000 * share)])
    kept = np.zeros(len(labels), bool)
    for label in sorted(set(labels)):
        clips = np.flatnonzero([one == label for one in labels])
        count = min(len(clips), max(2, round(share * len(clips)))) if share else 0
        kept[rng.choice(clips, count, replace=False)] = True
    return kept
