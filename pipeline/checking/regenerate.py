"""regenerate(): make a shard again from the store's own plan and spec, and hold it against its receipt."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import joblib

from pipeline.labelling.worker import ShardTask, make_shard
from pipeline.teachers.loading import as_labelled
from pipeline.teachers.teacher import TeacherChoice
from softlabels.audio.root import is_there
from softlabels.digests import sha256_of_bytes
from softlabels.errors import SoftLabelsError, StoreError
from softlabels.storage.location import location
from softlabels.store.equivalence import Likeness, compare_rows
from softlabels.store.plan_file import PlannedClip
from softlabels.store.reader import StoreReader
from softlabels.store.receipts import Receipt, commit_generation
from softlabels.store.shard import decode_shard


@dataclass(frozen=True, slots=True, kw_only=True)
class Regenerated:
    """What became of one shard.

    likeness: how the new bytes compare with the receipt's; None if the shard could not be made again or there is
      nothing left to compare with. restored: the file was damaged or gone and is whole again; accepted: the new
      bytes are the shard now (`--accept-equivalent`). problem: "" or what is wrong and what to do.
    """

    shard: int
    likeness: Likeness | None = None
    restored: bool = False
    accepted: bool = False
    problem: str = ""


def regenerate(
    store: StoreReader,
    shards: Sequence[int],
    *,
    root: str | Path | None = None,
    model: str | Path | None = None,
    jobs: int = -1,
    accept_equivalent: bool = False,
) -> list[Regenerated]:
    """Make shards again and compare; a damaged file is restored where the bytes match its receipt.

    Args:
      store: opened.
      shards: which.
      root, model: where audio and model are now; None is where the labelling run found them.
      jobs: worker processes.
      accept_equivalent: let equivalent bytes of another machine become the shard, as the receipt's next generation.
    Returns: one result a shard, in the order asked for.
    Raises: ValueError: a shard that was never planned. StoreError: a shard that was never committed.
    """
    planned = store.planned(shards)
    for shard in shards:
        if not planned[shard]:
            raise ValueError(f"--shard {shard}: expected one of the {store.planned_shards} planned shards, from 0")
        if shard not in store.receipts:
            raise StoreError(f"shard {shard} of '{store.storage}' was never committed; `softlabels run` labels it")
    tasks = [shard_task(store, shard, planned[shard], root=root, model=model) for shard in shards]
    parallel = joblib.Parallel(n_jobs=min(joblib.effective_n_jobs(jobs), len(tasks)), backend="loky")
    return list(parallel(joblib.delayed(_regenerate_shard)(store, task, accept_equivalent) for task in tasks))


def shard_task(
    store: StoreReader,
    shard: int,
    clips: Sequence[PlannedClip],
    *,
    root: str | Path | None,
    model: str | Path | None,
) -> ShardTask:
    """What a worker needs to make a shard of this store again.

    Raises: StoreError: the store's run.json does not say where the audio and the teacher are, and neither do you.
    """
    hints = store.hints()
    root = root or hints.get("audio_root")
    if not root or not is_there(location(root)):
        raise StoreError(
            f"store '{store.storage}': no audio at '{root}', where it was labelled from; name it with --root"
        )
    try:
        choice = TeacherChoice(**hints["teacher"])
    except (KeyError, TypeError) as e:
        raise StoreError(
            f"store '{store.storage}': run.json does not say which teacher it was ({e}); `softlabels run` with the "
            "settings of the store writes it anew"
        ) from e
    if model is not None:
        choice = dataclasses.replace(choice, model=str(model))
    choice = as_labelled(choice, store.spec)
    return ShardTask(
        shard=shard, clips=tuple(clips), spec=store.spec, teacher=choice, root=str(root), store=str(store.storage)
    )


def _regenerate_shard(store: StoreReader, task: ShardTask, accept_equivalent: bool) -> Regenerated:
    standing = store.receipt(task.shard)
    try:
        data, receipt = make_shard(task)
    except SoftLabelsError as e:
        return Regenerated(shard=task.shard, problem=f"shard {task.shard} cannot be made again: {e}")
    whole = _is_whole(store, standing)
    if receipt.digest == standing.digest:
        if not whole:
            store.storage.put(standing.file, data)
        return Regenerated(shard=task.shard, likeness="identical", restored=not whole)
    if not whole:
        return Regenerated(shard=task.shard, problem=_cannot_restore(store, standing, receipt))
    again = decode_shard(data, store.spec, len(store.classes))
    likeness = compare_rows(store.read_shard(task.shard), again)
    if likeness == "different":
        return Regenerated(shard=task.shard, likeness=likeness, problem=_difference(store, standing, receipt))
    if accept_equivalent:
        commit_generation(store.storage, data, receipt)
    return Regenerated(shard=task.shard, likeness="equivalent", accepted=accept_equivalent)


def _is_whole(store: StoreReader, receipt: Receipt) -> bool:
    try:
        return sha256_of_bytes(store.storage.get(receipt.file)) == receipt.digest
    except (FileNotFoundError, StoreError):  # gone, or a bucket noticed
        return False


def _cannot_restore(store: StoreReader, standing: Receipt, receipt: Receipt) -> str:
    return (
        f"shard {standing.shard} of '{store.storage}' is damaged, and what was made here has other bytes: "
        f"{what_differs(standing, receipt)}; use the environment of the receipt, restore the file from a copy, or "
        f"delete receipts/{standing.shard:05d}.g*.json and label the shard anew with `softlabels run`"
    )


def _difference(store: StoreReader, standing: Receipt, receipt: Receipt) -> str:
    return (
        f"shard {standing.shard} of '{store.storage}' is different: receipt says sha256:{standing.digest}, made again "
        f"it is sha256:{receipt.digest}: {what_differs(standing, receipt)}"
    )


def what_differs(standing: Receipt, receipt: Receipt) -> str:
    """The stages, in order, at which two receipts of one shard part: file, decode, teacher, packages."""
    found = []
    for clip_id, heard in standing.audio.items():
        now = receipt.audio.get(clip_id, {})
        stage = next((stage for stage in ("file", "pcm") if now.get(stage) != heard[stage]), None)
        if stage:
            found.append(f"{'audio file' if stage == 'file' else 'decoded audio'} of clip {clip_id!r}")
    if standing.quarantined != receipt.quarantined:
        found.append(f"{len(standing.quarantined)} quarantined stretches, now {len(receipt.quarantined)}")
    if standing.numerics_class != receipt.numerics_class:
        found.append("the teacher's numerics class (CPU, runtime or model)")
    found += [
        f"{name} {version}, now {receipt.environment.get(name)}"
        for name, version in standing.environment.items()
        if receipt.environment.get(name) != version
    ]
    shown = "; ".join(found[:10]) + (f"; and {len(found) - 10} more" if len(found) > 10 else "")
    return shown or "nothing that the receipts record"
