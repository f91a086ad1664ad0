"""regenerate(): make a shard again from the store's own plan and spec, and hold it against its receipt."""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import joblib

from pipeline.checking.sources import Sources, find_sources
from pipeline.checking.whereabouts import NEXT, find_files, some_of
from pipeline.labelling.worker import ShardTask, make_shard
from pipeline.processes import safe_path
from pipeline.search_path import start_code
from pipeline.teachers.own_code import theirs_explained
from pipeline.teachers.teacher import TeacherChoice
from softlabels.errors import EnvironmentTrouble, SoftLabelsError, StoreError
from softlabels.records.plan_file import PlannedClip
from softlabels.records.receipts import Receipt, commit_generation
from softlabels.records.shard import decode_shard
from softlabels.store.equivalence import Likeness, compare_rows
from softlabels.store.reader import StoreReader
from softlabels.tables import SHOWN

_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True, kw_only=True)
class Regenerated:
    """What became of one shard.

    likeness: how the new bytes compare with the receipt's; None if the shard could not be made again or there is
      nothing left to compare with. restored: the file was damaged or gone and is intact again; accepted: the new
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
    manifest: str | Path | None = None,
    teacher: str | TeacherChoice | None = None,
    model: str | Path | None = None,
    jobs: int = -1,
    accept_equivalent: bool = False,
) -> list[Regenerated]:
    """Make shards again and compare; a damaged file is restored where the bytes match its receipt.

    Args:
      store: opened.
      shards: which.
      root, manifest: where the audio is, and where in it each clip's file; teacher, model: who scores it, with which
        model; None is as this user's own run on this store had it. See `find_sources` and `find_files`.
      jobs: worker processes.
      accept_equivalent: let equivalent bytes of another machine become the shard, as the receipt's next generation.
    Returns: one result a shard, in the order asked for.
    Raises: ValueError: a shard that was never planned. StoreError: a shard that was never committed; no
      audio, or no teacher that is not only the store's word. EnvironmentTrouble: audio or machine are out of reach.
    """
    planned = planned_clips(store, shards)
    for shard in shards:
        if shard not in store.receipts:
            raise StoreError(f"shard {shard} of '{store.storage}' was never committed; `softlabels run` labels it")
    sources = find_sources(store, root=root, manifest=manifest, teacher=teacher, model=model)
    audio = {shard: store.receipt(shard).audio for shard in shards}
    clips = [clip for shard in shards for clip in planned[shard]]
    places = find_files(clips, sources.clips, sources.root, needed={i for each in audio.values() for i in each})
    lost = {shard: text for shard in shards if (text := some_of(places.lost, audio[shard]))}
    tasks = [shard_task(store, s, places.now(planned[s]), sources=sources) for s in shards if s not in lost]
    made = {
        each.shard: each for each in in_processes(partial(_regenerate_shard, store, accept_equivalent), tasks, jobs)
    }
    for shard, text in lost.items():
        made[shard] = Regenerated(shard=shard, problem=f"shard {shard} cannot be made again: {text}; {NEXT}")
    return [_with_note(made[shard], some_of(places.others, audio[shard])) for shard in shards]


def _with_note(result: Regenerated, note: str) -> Regenerated:
    return dataclasses.replace(result, problem=f"{result.problem}; {note}") if result.problem and note else result


def planned_clips(store: StoreReader, shards: Iterable[int]) -> dict[int, list[PlannedClip]]:
    """shard -> its planned clips. Raises: ValueError: a shard that was never planned."""
    planned = store.planned(shards)
    for shard, clips in planned.items():
        if not clips:
            raise ValueError(f"--shard {shard}: expected one of the {store.planned_shards} planned shards, from 0")
    return planned


def in_processes(function: Callable[[ShardTask], _Result], tasks: list[ShardTask], jobs: int) -> list[_Result]:
    """function(task) of every task, in order, in worker processes."""
    count = max(1, min(joblib.effective_n_jobs(jobs), len(tasks)))
    with safe_path():
        parallel = joblib.Parallel(n_jobs=count, backend="loky", initializer=exec, initargs=(start_code(),))
        return list(parallel(joblib.delayed(function)(task) for task in tasks))


def shard_task(store: StoreReader, shard: int, clips: Sequence[PlannedClip], *, sources: Sources) -> ShardTask:
    """What a worker needs to make a shard of this store again."""
    return ShardTask(
        shard=shard,
        clips=tuple(clips),
        spec=store.spec,
        teacher=sources.teacher,
        root=str(sources.root),
        store=str(store.storage),
        plan=store.plan_digest(shard),
    )


def _regenerate_shard(store: StoreReader, accept_equivalent: bool, task: ShardTask) -> Regenerated:
    shard, stored = task.shard, store.receipt(task.shard)
    try:
        with theirs_explained(task.teacher.kind, "scoring"):
            data, receipt = make_shard(task)
    except EnvironmentTrouble:
        raise  # says nothing of the store: tried again when the machine is well
    except SoftLabelsError as e:
        return Regenerated(shard=shard, problem=f"shard {shard} cannot be made again: {e}")
    intact = _is_intact(store, shard)
    if receipt.digest == stored.digest:
        if not intact:
            store.storage.put(stored.file, data)
        return Regenerated(shard=shard, likeness="identical", restored=not intact)
    if not intact:
        problem = (
            f"shard {shard} of '{store.storage}' is damaged, and what was made here has other bytes: "
            f"{_what_differs(stored, receipt)}; {_way_out(stored, receipt)}, or restore {stored.file} from a copy"
        )
        return Regenerated(shard=shard, problem=problem)
    likeness = compare_rows(store.read_shard(shard), decode_shard(data, store.spec, len(store.classes)))
    if likeness == "different":
        problem = (
            f"shard {shard} of '{store.storage}' is different: receipt says sha256:{stored.digest}, made again it is "
            f"sha256:{receipt.digest}: {_what_differs(stored, receipt)}"
        )
        return Regenerated(shard=shard, likeness=likeness, problem=problem)
    if accept_equivalent:
        commit_generation(store.storage, data, receipt)
    return Regenerated(shard=shard, likeness="equivalent", accepted=accept_equivalent)


def _way_out(stored: Receipt, made: Receipt) -> str:
    """What may give a damaged shard its bytes back, or make another one in its place."""
    if any(made.audio.get(clip_id, {}).get("file") != audio["file"] for clip_id, audio in stored.audio.items()):
        return "put the audio back that was labelled"
    again = f"delete receipts/{stored.shard:05d}.g*.json and label the shard again with `softlabels run`"
    return f"use the environment of the receipt, {again}"


def _is_intact(store: StoreReader, shard: int) -> bool:
    try:
        store.shard_bytes(shard, cached=False)
    except StoreError:
        return False
    return True


def _what_differs(stored: Receipt, made: Receipt) -> str:
    """The stages, in order, at which two receipts of one shard part: file, decode, teacher, packages."""
    found = []
    for clip_id, before in stored.audio.items():
        now = made.audio.get(clip_id, {})
        stage = next((stage for stage in ("file", "pcm") if now.get(stage) != before[stage]), None)
        if stage:
            found.append(f"{'audio file' if stage == 'file' else 'decoded audio'} of clip {clip_id!r}")
    if stored.quarantined != made.quarantined:
        found.append(f"{len(stored.quarantined)} quarantined stretches, now {len(made.quarantined)}")
    if stored.numerics_class != made.numerics_class:
        found.append("the teacher's numerics class (CPU, runtime or model)")
    found += [
        f"{name} {version}, now {made.environment.get(name)}"
        for name, version in stored.environment.items()
        if made.environment.get(name) != version
    ]
    shown = "; ".join(found[:SHOWN]) + (f"; and {len(found) - SHOWN} more" if len(found) > SHOWN else "")
    return shown or "nothing that the receipts record"
