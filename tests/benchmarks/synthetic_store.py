"""A store of any size without teacher or audio, and its manifest, to measure with.

    python tests/benchmarks/synthetic_store.py FOLDER [--clips 1000] [--windows 10] [--classes 100]
                                               [--shard-windows 1024] [--embedding 0] [--seed 0] [--jobs -1]

Writes FOLDER/soft_labels, made by the package's own planner, encoder and commit, and FOLDER/data_manifest.csv:
half of the clips are annotated, with one class each, four of five are in split `train`, the fifth is in `test`. The
teacher hears each clip's class in about half of its windows; the rest of what it says is noise. 10 M windows of 100
classes take a few minutes and 1.5 GB.
"""

import argparse
import dataclasses
import hashlib
import json
import os
import platform
import sys
from collections.abc import Iterator
from itertools import groupby, pairwise
from pathlib import Path
from unittest import mock

import joblib
import numpy as np
import pyarrow as pa

from pipeline.planning.plan import pack_shards
from softlabels.classes.class_list import ClassList
from softlabels.corpus.manifest import Clip, write_manifest
from softlabels.records.plan_file import PlannedClip, encode_plan, plan_table
from softlabels.records.receipts import Receipt, commit_shard
from softlabels.records.shard import ShardRows, encode_shard
from softlabels.records.spec import LabelSpec
from softlabels.soft_label_store import SoftLabelStore
from softlabels.storage.local import LocalStorage
from softlabels.windows import WindowSpec

RATE_HZ = 24_000
WINDOW = WindowSpec(rate_hz=RATE_HZ, window_samples=3 * RATE_HZ, hop_samples=3 * RATE_HZ)
SHARDS_A_TASK = 32


def write_store(
    folder: str | Path,
    *,
    clips: int,
    windows: int = 10,
    classes: int = 100,
    shard_windows: int = 1024,
    embedding: int = 0,
    seed: int = 0,
    jobs: int = -1,
) -> Path:
    """Write FOLDER/soft_labels and FOLDER/data_manifest.csv; the same arguments give the same bytes.

    Args:
      clips, windows: how many clips, and windows a clip.
      classes: of the teacher; clip number n is of class n % classes.
      shard_windows: at most so many windows a shard.
      embedding: numbers of one a window; there are few different ones.
      jobs: worker processes.
    Returns: the store's folder.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    names = [_class_name(number) for number in range(classes)]
    write_manifest(_manifest_clips(clips, names), folder / "data_manifest.csv")
    storage = LocalStorage(folder / "soft_labels")
    planned = pack_shards(_planned(clips, windows), shard_windows=shard_windows, first_shard=0)
    with mock.patch("os.fsync"):  # this store need not survive a power cut
        spec = _write_head(storage, ClassList(tuple(names)), shard_windows, embedding, planned)
        _write_shards(storage, spec, planned, classes, seed, jobs)
        _write_success(storage)
    return storage.root


def _class_name(number: int) -> str:
    return f"Genus species{number:03d}_Bird {number:03d}"


def _clip_id(number: int) -> str:
    return f"clip{number:08d}"


def _path(number: int) -> str:
    return f"audio/{number % 1000:03d}/{_clip_id(number)}.wav"


def _manifest_clips(clips: int, names: list[str]) -> Iterator[Clip]:
    for number in range(clips):
        turn = number + number // len(names)  # so that each class is annotated or not, and in both splits, by turns
        labels = (names[number % len(names)],) if turn % 2 == 0 else None
        split = "test" if turn % 5 == 4 else "train"
        yield Clip(clip_id=_clip_id(number), path=_path(number), labels=labels, split=split)


def _planned(clips: int, windows: int) -> Iterator[PlannedClip]:
    frames = windows * WINDOW.window_samples
    for number in range(clips):
        yield PlannedClip(
            shard=0,
            clip_id=_clip_id(number),
            first_window=0,
            windows=windows,
            path=_path(number),
            end=frames,
            frames=frames,
            rate_hz=RATE_HZ,
            channels=1,
            container="wav",
            size=44 + 2 * frames,
            sha256=_sha256(_path(number)),
        )


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _write_head(
    storage: LocalStorage, classes: ClassList, shard_windows: int, embedding: int, planned: list[PlannedClip]
) -> LabelSpec:
    """Everything that a run writes before it labels: class list, spec and plan."""
    spec = LabelSpec(
        teacher="synthetic",
        teacher_digest=_sha256("synthetic"),
        class_digest=classes.digest,
        activation="sigmoid",
        window=WINDOW,
        shard_windows=shard_windows,
        embedding=embedding,
    )
    header = {"format_version": spec.format_version, "fingerprint": spec.fingerprint(), "spec": spec.to_json()}
    storage.put("classes.txt", classes.to_text().encode())
    storage.put("store.json", json.dumps(header, indent=2).encode() + b"\n")
    storage.put("plan/0001.parquet", encode_plan(plan_table(planned)))
    return spec


def _write_shards(
    storage: LocalStorage, spec: LabelSpec, planned: list[PlannedClip], classes: int, seed: int, jobs: int
) -> None:
    shards = [list(stretches) for _, stretches in groupby(planned, lambda stretch: stretch.shard)]
    bounds = [*range(0, len(shards), SHARDS_A_TASK), len(shards)]
    joblib.Parallel(n_jobs=jobs)(
        joblib.delayed(_commit_shards)(storage, spec, shards[first:behind], classes, seed)
        for first, behind in pairwise(bounds)
    )


def _commit_shards(
    storage: LocalStorage, spec: LabelSpec, shards: list[list[PlannedClip]], classes: int, seed: int
) -> None:
    with mock.patch("os.fsync"):
        for stretches in shards:
            shard = stretches[0].shard
            rows = _rows(stretches, classes, np.random.default_rng([seed, shard]))
            if spec.embedding:
                rows = dataclasses.replace(rows, embedding=_embeddings(len(rows), spec.embedding))
            data = encode_shard(rows, spec, shard=shard)
            commit_shard(storage, data, _receipt(spec, data, stretches, len(rows)))


def _rows(stretches: list[PlannedClip], classes: int, rng: np.random.Generator) -> ShardRows:
    counts = [stretch.windows for stretch in stretches]
    numbers = np.repeat([int(stretch.clip_id.removeprefix("clip")) for stretch in stretches], counts)  # (rows,)
    index = np.concatenate([stretch.first_window + np.arange(stretch.windows) for stretch in stretches])
    probabilities = 0.1 * rng.random((len(numbers), classes), np.float32) ** 4  # (rows, classes)
    heard = rng.random(len(numbers)) < 0.5
    probabilities[np.flatnonzero(heard), numbers[heard] % classes] = rng.uniform(0.3, 1.0, heard.sum())
    return ShardRows(
        clip_id=np.array([_clip_id(number) for number in numbers], object),
        window_index=index.astype(np.int32),
        start_s=index * WINDOW.window_s,
        end_s=(index + 1) * WINDOW.window_s,
        pad_fraction=np.zeros(len(numbers), np.float32),
        probabilities=probabilities,
    )


def _embeddings(rows: int, width: int) -> np.ndarray:
    """(rows, width) float32: one of 16, by turns."""
    distinct = np.maximum(np.random.default_rng(0).normal(0.3, 0.5, (16, width)), 0).astype(np.float32)
    return distinct[np.arange(rows) % 16]


def _receipt(spec: LabelSpec, data: bytes, stretches: list[PlannedClip], rows: int) -> Receipt:
    """As long as a real one: two digests a clip, and the versions."""
    return Receipt(
        shard=stretches[0].shard,
        fingerprint=spec.fingerprint(),
        digest=hashlib.sha256(data).hexdigest(),
        size=len(data),
        rows=rows,
        quarantined=(),
        audio={s.clip_id: {"file": s.sha256, "pcm": _sha256(s.clip_id)} for s in stretches},
        environment={"python": platform.python_version(), "numpy": np.__version__, "pyarrow": pa.__version__},
        numerics_class=_sha256("no teacher"),
    )


def _write_success(storage: LocalStorage) -> None:
    store = SoftLabelStore(storage)
    storage.put("_SUCCESS-0001.json", store.success_bytes(1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    for name, default in [
        ("clips", 1000),
        ("windows", 10),
        ("classes", 100),
        ("shard-windows", 1024),
        ("embedding", 0),
        ("seed", 0),
    ]:
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--embedding", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=-1)
    arguments = vars(parser.parse_args())
    root = write_store(arguments.pop("folder"), **arguments)
    files = [path for path in root.rglob("*") if path.is_file()]
    print(f"{root}: {len(files):,} files, {sum(os.path.getsize(path) for path in files):,} bytes", file=sys.stderr)


if __name__ == "__main__":
    main()
