"""What one worker process does: load the teacher once, then label and commit shards."""

import dataclasses
import functools
import importlib.metadata
import logging
import platform
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, TypeVar

import numpy as np
import soundfile

from pipeline.labelling.claims import Claim
from pipeline.labelling.label import keep_classes, label_shard
from pipeline.teachers.loading import load_teacher
from pipeline.teachers.own_code import place_of, theirs_explained
from pipeline.teachers.scoring import numerics_class
from pipeline.teachers.teacher import Teacher, TeacherChoice, embedding_width
from softlabels.audio.root import check_root
from softlabels.classes.class_list import ClassList
from softlabels.digests import sha256_of_bytes
from softlabels.errors import EnvironmentTrouble, SoftLabelsError, StoreError, TeacherError
from softlabels.os_errors import is_environment, is_store_trouble, told
from softlabels.records.plan_file import PlannedClip
from softlabels.records.receipts import MOST_NOTE, Outcome, Receipt, commit_shard, current_receipt
from softlabels.records.shard import decode_shard, encode_shard
from softlabels.records.spec import LabelSpec
from softlabels.storage.location import location
from softlabels.storage.opening import open_storage
from softlabels.store.components import Components, read_components
from softlabels.store.equivalence import compare_rows

logger = logging.getLogger(__name__)
PACKAGES = "softlabels", "numpy", "pyarrow", "soundfile", "soxr", "ai-edge-litert", "tensorflow", "keras", "onnxruntime"


_Status = TypeVar("_Status")
Fate = Outcome | Literal["refused", "claimed", "deferred", "failed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardTask:
    """One shard to label: everything a worker needs, small and picklable.

    keep_quarantined: commit a shard although windows of it are quarantined.
    replacing: digest of the receipt that this one may replace, because transient faults are tried again; "" is none.
    strict_class: the only numerics class that may add to the store; "" is any.
    restoring: its receipt is there, and proves nothing, because its file is not.
    claim: to be taken first, where runs share the work.
    plan: sha256 of the plan file that has the shard, for its receipt.
    notes: clip_id -> what probing found odd about its file, for its receipt.
    """

    shard: int
    clips: tuple[PlannedClip, ...]
    spec: LabelSpec
    teacher: TeacherChoice
    root: str
    store: str
    keep_quarantined: bool = True
    replacing: str = ""
    strict_class: str = ""
    restoring: bool = False
    claim: Claim | None = None
    plan: str = ""
    notes: dict[str, str] = field(default_factory=dict)

    @property
    def windows(self) -> int:
        return sum(clip.windows for clip in self.clips)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardStatus:
    """What became of it.

    outcome: "committed", "equal", "equivalent" or "different" as in `commit_shard`; "refused" where --on-error fail
      kept a quarantined window from being committed; "claimed" where another run is at work on it; "deferred" where the
      environment was at fault; "failed" where labelling raised.
    notes: clip_id -> what is odd about its audio.
    message: for people, why; or the first quarantined stretch, and file: where that is.
    place: where in the teacher's code; no receipt has it.
    """

    shard: int
    planned: int
    rows: int = 0
    quarantined: int = 0
    size: int = 0
    outcome: Fate
    message: str = ""
    file: str = ""
    place: str = ""
    notes: dict[str, str] = field(default_factory=dict)


def label_and_commit(task: ShardTask) -> ShardStatus:
    """Label one shard and commit it; what is returned is for the progress bar, the truth is in the store.

    Raises: TeacherError, StorageFullError, StoreError: what would stop every shard, not only this one.
    """
    made = _try_make(task)
    if isinstance(made, ShardStatus):
        return made
    data, receipt = made
    if receipt.quarantined and not task.keep_quarantined:
        return status_of(task, "refused", receipt)
    return _unless_in_trouble(task, lambda: status_of(task, _commit(task, data, receipt), receipt), "committing")


def label_if_missing(task: ShardTask) -> ShardStatus:
    """The same, unless somebody has committed the shard by now: another run, or a worker whose answer was lost.

    Or is about to: its claim was taken.
    """
    return _unless_in_trouble(task, lambda: _settled(task), "looking for a receipt") or label_and_commit(task)


def _settled(task: ShardTask) -> ShardStatus | None:
    """The status of a shard that the store has already, or that another run is at work on; None where it is to do."""
    storage = open_storage(task.store)
    latest = current_receipt(storage, task.shard)
    if latest is not None and not task.restoring and not (task.replacing and latest.identity == task.replacing):
        return status_of(task, "equal", latest)
    if task.claim is not None and not task.claim.take(storage):
        return status_of(task, "claimed")
    return None


def _unless_in_trouble(task: ShardTask, function: Callable[[], _Status], doing: str) -> _Status | ShardStatus:
    """What a function gives, or a deferred status where the store is out of reach."""
    try:
        return function()
    except EnvironmentTrouble as e:
        return status_of(task, "deferred", message=str(e))
    except OSError as e:
        if not is_store_trouble(e):
            raise
        return status_of(task, "deferred", message=f"store '{task.store}': {e.strerror} while {doing}")


def label_only(task: ShardTask) -> ShardStatus:
    """Label clips and keep nothing, to see whether it can be done at all."""
    made = _try_make(task)
    return made if isinstance(made, ShardStatus) else status_of(task, "refused", made[1])


def check_worker(task: ShardTask) -> None:
    """Score control windows in this process: proof that worker and teacher are well.

    Raises: TeacherError: it raised, and no clip can be to blame.
    """
    with theirs_explained(task.teacher.kind, "scoring control windows"):
        numerics_class(_warm_teacher(task.teacher)[0], embedded=task.teacher.embedding)


def out_of_reach(task: ShardTask) -> str:
    """Why neither this shard nor any other can be labelled now: its audio root or its store is gone; "" is not so."""
    try:
        check_root(location(task.root))
        open_storage(task.store).exists("store.json")
    except (SoftLabelsError, OSError) as e:
        return str(e)
    return ""


def _try_make(task: ShardTask) -> tuple[bytes, Receipt] | ShardStatus:
    try:
        return make_shard(task)
    except (EnvironmentTrouble, MemoryError) as e:
        message = f"{type(e).__name__}: {e}" if isinstance(e, MemoryError) else str(e)
        return status_of(task, "deferred", message=message)
    except (SoftLabelsError, KeyboardInterrupt):
        raise
    except BaseException as e:  # a teacher may raise anything, SystemExit too; the supervisor finds out on which clip
        if isinstance(e, OSError) and is_environment(e):  # of the teacher's files, or of the store's
            return status_of(task, "deferred", message=f"labelling: {told(e)}")
        logger.debug("shard %d failed", task.shard, exc_info=True)
        failed = status_of(task, "failed", message=f"crashed: the teacher raised {type(e).__name__}: {e}")
        return dataclasses.replace(failed, place=place_of(e))


def status_of(task: ShardTask, outcome: Fate, receipt: Receipt | None = None, message: str = "") -> ShardStatus:
    """The status of a shard, with the figures of its receipt if it has one."""
    if receipt is None:
        return ShardStatus(shard=task.shard, planned=task.windows, outcome=outcome, message=message)
    first = next(iter(receipt.quarantined), None)
    return ShardStatus(
        shard=task.shard,
        planned=task.windows,
        rows=receipt.rows,
        quarantined=sum(entry.windows for entry in receipt.quarantined),
        size=receipt.size,
        outcome=outcome,
        notes=receipt.notes,
        message=f"{first.clip_id}: {first.reason}: {first.detail}" if first else message,
        file=next((f"{task.root}/{clip.path}" for clip in task.clips if first and clip.clip_id == first.clip_id), ""),
    )


def _commit(task: ShardTask, data: bytes, receipt: Receipt) -> Outcome:
    """Commit, and tell another machine's equivalent bytes from a broken promise."""
    storage = open_storage(task.store)
    outcome, latest = commit_shard(storage, data, receipt, replacing=task.replacing)
    if outcome == "different" and latest.numerics_class != receipt.numerics_class:
        teacher, _ = _warm_teacher(task.teacher)
        kept = _stored_classes(task, teacher)
        classes = len(teacher.classes) if kept is None else len(kept)
        try:
            stored = decode_shard(storage.get_small(latest.file, latest.size), task.spec, classes)
        except (OSError, StoreError):
            return "different"
        if compare_rows(stored, decode_shard(data, task.spec, classes)) == "equivalent":
            return "equivalent"
    return outcome


def make_shard(task: ShardTask) -> tuple[bytes, Receipt]:
    """Label one shard: its file and its receipt; nothing is written.

    Raises: TeacherError: the teacher is not the spec's, or a window ended neither labelled nor quarantined.
    """
    teacher, numerics = _warm_teacher(task.teacher)
    check_teacher(teacher, task.spec)
    if task.strict_class not in ("", numerics):
        raise TeacherError(
            f"--strict: the store was made by numerics class {task.strict_class[:12]}, this machine is "
            f"{numerics[:12]}: another CPU class, runtime or model; without --strict, labels that are equal within "
            "rounding are accepted"
        )
    stored = _stored_classes(task, teacher)
    rows, findings = label_shard(
        list(task.clips),
        teacher,
        task.spec.window,
        location(task.root),
        jitters=task.spec.jitters,
        embedded=bool(task.spec.embedding),
    )
    for clip_id, note in task.notes.items():  # which may be of a stranger's probe cache
        if clip_id in findings.audio:
            both = "; ".join(filter(None, (note, findings.audio[clip_id].get("note"))))
            findings.audio[clip_id]["note"] = both.encode(errors="replace").decode()[:MOST_NOTE]
    quarantined = sum(entry.windows for entry in findings.quarantined)
    if len(rows) + quarantined != task.windows:
        raise TeacherError(
            f"shard {task.shard}: {task.windows} windows were planned, {len(rows)} labelled and {quarantined} "
            "quarantined; this is a fault of softlabels, please report it"
        )
    if stored is not None:
        rows = keep_classes(rows, stored, _warm_components(task.store, task.spec))
    data = encode_shard(rows, task.spec, shard=task.shard)
    receipt = Receipt(
        shard=task.shard,
        fingerprint=task.spec.fingerprint(),
        digest=sha256_of_bytes(data),
        size=len(data),
        rows=len(rows),
        quarantined=tuple(findings.quarantined),
        audio=findings.audio,
        environment=environment(getattr(teacher, "runs_on", "")),
        numerics_class=numerics,
        plan=task.plan,
    )
    return data, receipt


def check_teacher(teacher: Teacher, spec: LabelSpec) -> None:
    """Raises: TeacherError: this is not the teacher of the spec."""
    same_classes = teacher.classes.digest == (spec.teacher_class_digest or spec.class_digest)
    if teacher.digest != spec.teacher_digest or not same_classes:
        other = "its class list is another one (--labels)" if not same_classes else "its model is another one (--model)"
        raise TeacherError(
            f"teacher {teacher.name!r} is not the one that labelled the store: {other}; `softlabels inspect` says "
            "which it was"
        )
    if spec.embedding not in (0, embedding_width(teacher)):
        raise TeacherError(
            f"teacher {teacher.name!r}: expected embeddings of {spec.embedding} numbers, got {embedding_width(teacher)}"
        )


def _stored_classes(task: ShardTask, teacher: Teacher) -> np.ndarray | None:
    """(kept,) positions in the teacher's list of the classes that the store keeps; None is all."""
    if not task.spec.keeps_some:
        return None
    kept = ClassList.from_text(open_storage(task.store).get("classes.txt").decode())
    if kept.digest != task.spec.class_digest:
        raise StoreError(f"store '{task.store}': classes.txt was changed; restore it, or every name would be wrong")
    strange = [name for name in kept if name not in teacher.classes]
    if strange:
        raise TeacherError(f"store '{task.store}': its class {strange[0]!r} is none of teacher {teacher.name!r}'s")
    return np.array([teacher.classes.index(name) for name in kept], np.int64)


@functools.lru_cache(maxsize=1)
def _warm_components(store: str, spec: LabelSpec) -> Components | None:
    """Read once a process, as the spec's digest says which."""
    return read_components(open_storage(store), spec) if spec.components else None


@functools.lru_cache(maxsize=1)
def _warm_teacher(choice: TeacherChoice) -> tuple[Teacher, str]:
    """The teacher and its numerics class; loaded once a process, so that a worker stays warm over shards."""
    teacher = load_teacher(choice)
    return teacher, numerics_class(teacher, embedded=choice.embedding)


@functools.cache
def environment(runs_on: str = "") -> dict[str, str]:
    """Versions of everything that computes a byte of a shard; runs_on: what a teacher in batches says of itself."""
    versions = {name: _version(name) for name in PACKAGES}
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "libsndfile": soundfile.__libsndfile_version__,
        **versions,
        **({"runs_on": runs_on} if runs_on else {}),
    }


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
