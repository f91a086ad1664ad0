"""Files of a labelled corpus are moved, swapped, changed and deleted at random: what does each reader make of it?

    PYTHONPATH=.:tests python tests/benchmarks/moved_files.py --rounds 100

Eight clips, all of one length and half of them of one time, so that nothing but their bytes tells them apart. After one
to four changes, of which the manifest follows some, every reader is held against what has to come of it:

reader                 is well                                                   else
run                    no labelled clip has another file at its path             refused, and names exactly those clips
verify --recompute 1   each clip's file has its digest, or where there is none,  names exactly the other clips
                       another file below the root has
regenerate             the same, and the bytes are those of before               the same
training               each clip's file has its digest                           an error for exactly the other clips

Prints rounds and differences, of which there may be none; about 0.2 s a round.
"""

import argparse
import os
import random
import tempfile
from pathlib import Path

import numpy as np
import soundfile

import pipeline
import softlabels
from pipeline.checking.regenerate import regenerate
from pipeline.checking.verify import verify
from softlabels.batches.window_audio import WindowAudio
from softlabels.digests import sha256_of_file
from softlabels.errors import AudioError, SoftLabelsError, StoreError

CLIPS = [f"clip-{i}" for i in range(8)]


class Round:
    """One corpus, its store, and what was done to its files. paths: clip_id -> path in the manifest."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.random = folder, random.Random(seed)
        self.paths = {clip: f"{clip}.wav" for clip in CLIPS}
        self.done: list[str] = []
        for i, path in enumerate(self.paths.values()):
            self.write(folder / path, seed=i)
            if i % 2:
                os.utime(folder / path, ns=(10**18, 10**18))
        self.column = self.random.random() < 0.3  # of digests, as they were when the clips were labelled
        self.digests = {clip: sha256_of_file(folder / path) for clip, path in self.paths.items()}
        self.write_manifest()
        self.run()
        self.store = softlabels.open(folder / "store")

    def write(self, path: Path, *, seed: int) -> None:
        """A file of 0.2 s."""
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, np.random.default_rng(seed).uniform(-0.4, 0.4, 1600), 8000, format="WAV")

    def write_manifest(self) -> None:
        rows = [f"{clip},{path},{self.digests[clip] if self.column else ''}" for clip, path in self.paths.items()]
        (self.folder / "data_manifest.csv").write_text("\n".join(["clip_id,path,sha256", *rows]) + "\n")

    def run(self) -> None:
        pipeline.run(
            self.folder / "data_manifest.csv",
            self.folder / "store",
            teacher="standin:teacher",
            labelling=pipeline.LabelOptions(shard_windows=4),
            options=pipeline.RunOptions(backend="sequential"),
        )

    def files(self) -> list[Path]:
        return sorted(path for path in self.folder.rglob("*") if path.is_file() and "store" not in path.parts[-3:])

    def change(self) -> None:
        """One thing that people do to files."""
        files = [path for path in self.files() if path.suffix != ".csv"]
        what = self.random.choice(["move", "move", "move", "swap", "swap", "rewrite", "delete", "copy"])
        path, other = self.random.sample(files, 2) if len(files) > 1 else (files[0], files[0])
        there = self.folder / self.random.choice(["", "a/", "a/b c/", "ü/"]) / f"{self.random.randrange(99)}.wav"
        follows = self.random.random() < 0.6
        self.done.append(f"{what} {path.name} {other.name} {there.name} {'followed' * follows}")
        if what == "move" and not there.exists():
            there.parent.mkdir(parents=True, exist_ok=True)
            path.rename(there)
            self.follow({path: there} if follows else {})
        elif what == "swap" and path != other:
            path.rename(path.with_suffix(".x"))
            other.rename(path)
            path.with_suffix(".x").rename(other)
            self.follow({path: other, other: path} if follows else {})
        elif what == "rewrite":
            self.write(path, seed=self.random.randrange(100, 999))
        elif what == "delete" and len(files) > 2:
            path.unlink()
        elif what == "copy" and not there.exists():
            there.parent.mkdir(parents=True, exist_ok=True)
            there.write_bytes(path.read_bytes())

    def follow(self, moved: dict[Path, Path]) -> None:
        new = {str(a.relative_to(self.folder)): str(b.relative_to(self.folder)) for a, b in moved.items()}
        self.paths = {clip: new.get(path, path) for clip, path in self.paths.items()}

    def differences(self) -> list[str]:
        """What a reader made of it that it should not have."""
        here = {str(path.relative_to(self.folder)): sha256_of_file(path) for path in self.files()}
        found = {clip: here.get(path) for clip, path in self.paths.items()}  # None: no file
        other = {clip for clip in CLIPS if found[clip] not in (None, self.digests[clip])}
        lost = {clip for clip in CLIPS if found[clip] is None and self.digests[clip] not in here.values()}
        silent = {clip for clip in CLIPS if found[clip] != self.digests[clip]}
        wrong = [f"run {self.told_by_run()} {other}"] if self.told_by_run() != other else []
        before = {path.name: path.read_bytes() for path in (self.folder / "store" / "shards").iterdir()}
        for reader in (self.told_by_verify, self.told_by_regenerate):
            if (told := reader()) != other | lost:
                wrong.append(f"{reader.__name__} {told} {other | lost}")
        after = {path.name: path.read_bytes() for path in (self.folder / "store" / "shards").iterdir()}
        wrong += ["the bytes of shards"] if after != before else []
        wrong += [f"training {self.told_by_training()} {silent}"] if self.told_by_training() != silent else []
        return wrong

    def told_by_run(self) -> set[str]:
        try:
            self.run()
        except StoreError as e:
            return {clip for clip in CLIPS if f"'{clip}' (" in str(e)}
        return set()

    def told_by_verify(self) -> set[str]:
        try:
            text = " ".join(check.problem for check in verify(self.store, recompute=1.0, jobs=1).shards)
        except StoreError as e:
            return _all_lost(e)
        return {clip for clip in CLIPS if f"clip '{clip}':" in text}

    def told_by_regenerate(self) -> set[str]:
        try:
            made = regenerate(self.store, range(self.store.planned_shards), jobs=1)
        except StoreError as e:
            return _all_lost(e)
        problems = " ".join(result.problem for result in made)
        return {clip for clip in CLIPS if f"clip '{clip}':" in problems}

    def told_by_training(self) -> set[str]:
        labels = softlabels.open(self.folder / "store").join(self.folder / "data_manifest.csv", canary=False)
        told = set()
        for row, clip in enumerate(labels.keys.clip_id):
            try:
                WindowAudio(labels).read([row])
            except AudioError:
                told.add(clip)
        return told


def _all_lost(e: SoftLabelsError) -> set[str]:
    return set(CLIPS) if "is --root right" in str(e) else set()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp()
    different = 0
    for seed in range(args.seed, args.seed + args.rounds):
        with tempfile.TemporaryDirectory() as folder:
            made = Round(Path(folder).resolve() / "corpus", seed)
            for _ in range(made.random.randrange(1, 5)):
                made.change()
            made.write_manifest()
            if wrong := made.differences():
                different += 1
                print(seed, made.done, wrong)
    print(f"rounds       {args.rounds}\ndifferences  {different}")


if __name__ == "__main__":
    main()
