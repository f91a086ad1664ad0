"""What one worker process does: load the teacher once, then label and commit shards."""

import functools
import hashlib
import importlib.metadata
import platform
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from pipeline.label import label_shard
from pipeline.teachers import Teacher, TeacherChoice, load_teacher
from softlabels.errors import TeacherError
from softlabels.planned import PlannedClip
from softlabels.receipts import Outcome, Receipt, commit_shard
from softlabels.shard import encode_shard
from softlabels.spec import LabelSpec
from softlabels.storage import LocalStorage

PACKAGES = ("softlabels", "numpy", "pyarrow", "soundfile", "soxr", "ai-edge-litert")


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardTask:
    """One shard to label: everything a worker needs, small and picklable."""

    shard: int
    clips: tuple[PlannedClip, ...]
    spec: LabelSpec
    teacher: TeacherChoice
    root: str
    store: str
    keep_quarantined: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardStatus:
    """What became of it. `outcome` is None where --on-error fail kept it from being committed."""

    shard: int
    planned: int
    rows: int
    quarantined: int
    size: int
    outcome: Outcome | None
    first_reason: str = ""


def label_and_commit(task: ShardTask) -> ShardStatus:
    """Label one shard and commit it; what is returned is for the progress bar, the truth is in the store."""
    data, receipt = make_shard(task)
    quarantined = sum(entry.windows for entry in receipt.quarantined)
    outcome: Outcome | None = None
    if task.keep_quarantined or not quarantined:
        outcome = commit_shard(LocalStorage(task.store), data, receipt)
    first = receipt.quarantined[0] if receipt.quarantined else None
    return ShardStatus(
        shard=task.shard,
        planned=receipt.rows + quarantined,
        rows=receipt.rows,
        quarantined=quarantined,
        size=len(data),
        outcome=outcome,
        first_reason=f"{first.clip_id}: {first.reason}: {first.detail}" if first else "",
    )


def make_shard(task: ShardTask) -> tuple[bytes, Receipt]:
    """Label one shard: its file and its receipt; nothing is written.

    Raises: TeacherError: the teacher is not the spec's, or a window ended neither labelled nor quarantined.
    """
    teacher, numerics = _warm_teacher(task.teacher)
    check_teacher(teacher, task.spec)
    rows, findings = label_shard(list(task.clips), teacher, task.spec.window, Path(task.root))
    planned = sum(clip.windows for clip in task.clips)
    quarantined = sum(entry.windows for entry in findings.quarantined)
    if len(rows) + quarantined != planned:
        raise TeacherError(
            f"shard {task.shard}: {planned} windows were planned, {len(rows)} labelled and {quarantined} "
            "quarantined; this is a fault of softlabels, please report it"
        )
    data = encode_shard(rows, task.spec, shard=task.shard)
    receipt = Receipt(
        shard=task.shard,
        fingerprint=task.spec.fingerprint(),
        digest=hashlib.sha256(data).hexdigest(),
        size=len(data),
        rows=len(rows),
        quarantined=tuple(findings.quarantined),
        audio=findings.audio,
        environment=environment(),
        numerics_class=numerics,
    )
    return data, receipt


def check_teacher(teacher: Teacher, spec: LabelSpec) -> None:
    """Raises: TeacherError: this is not the teacher of the spec."""
    if teacher.digest != spec.teacher_digest or teacher.classes.digest != spec.class_digest:
        raise TeacherError(
            f"teacher {teacher.name!r}: expected sha256:{spec.teacher_digest} with class list "
            f"sha256:{spec.class_digest}, got sha256:{teacher.digest} and sha256:{teacher.classes.digest}"
        )


@functools.lru_cache(maxsize=1)
def _warm_teacher(choice: TeacherChoice) -> tuple[Teacher, str]:
    """The teacher and its numerics class; loaded once a process, so that a worker stays warm over shards."""
    teacher = load_teacher(choice)
    return teacher, numerics_class(teacher)


def numerics_class(teacher: Teacher) -> str:
    """Digest of the answer to 8 fixed synthetic windows: tells CPU class, runtime and a wrong model apart."""
    integers = np.random.Generator(np.random.PCG64(2024)).integers(-8192, 8192, (8, teacher.window_samples))
    windows = (integers / 32768).astype(np.float32)  # exact, so the same everywhere
    padding = np.zeros((-8 % teacher.batch_size, teacher.window_samples), np.float32)
    batches = np.concatenate([windows, padding]).reshape(-1, teacher.batch_size, teacher.window_samples)
    answer = np.concatenate([teacher.score(batch) for batch in batches])[:8]
    return hashlib.sha256(np.ascontiguousarray(answer)).hexdigest()


@functools.cache
def environment() -> dict[str, str]:
    """Versions of everything that computes a byte of a shard."""
    versions = {name: _version(name) for name in PACKAGES}
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "libsndfile": soundfile.__libsndfile_version__,
        **versions,
    }


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
