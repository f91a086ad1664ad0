"""verify(): is every shard what its receipt says, and is every planned window there? Reads all bytes, writes none.

What plan, spec and receipts determine is computed again and compared: keys, times, padding, how values are rounded.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import joblib
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.checking.kept_joins import joins_problems
from pipeline.checking.regenerate import in_processes, planned_clips, shard_task
from pipeline.checking.sources import Sources, find_sources
from pipeline.checking.untrusted import strange_files
from pipeline.checking.whereabouts import NEXT, find_files, some_of
from pipeline.labelling.worker import ShardTask, make_shard
from pipeline.teachers.own_code import theirs_explained
from pipeline.teachers.teacher import TeacherChoice
from softlabels.digests import is_sha256
from softlabels.errors import EnvironmentTrouble, SoftLabelsError, StoreError
from softlabels.records.plan_file import PlannedClip
from softlabels.records.shard import ROUNDED, ShardRows, decode_shard, round_probabilities
from softlabels.store.components import read_components
from softlabels.store.equivalence import Likeness, compare_rows
from softlabels.store.index import LABELLED
from softlabels.store.reader import StoreReader
from softlabels.windows import rescale_samples

SAMPLE_SEED = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardCheck:
    """What was found out about one shard; `problem` is "" or says what is wrong and how to mend it.

    recomputed: windows that the teacher scored again; likeness: how they compare, None if none were.
    """

    shard: int
    problem: str = ""
    recomputed: int = 0
    likeness: Likeness | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyReport:
    """All checks of a store. problems: those of no single shard; orphans: shard files no receipt names.

    digest: of the entire store, see `StoreReader.digest`; checked: what was looked at, and how much of it.
    """

    shards: tuple[ShardCheck, ...]
    problems: tuple[str, ...]
    orphans: tuple[str, ...]
    digest: str = ""
    checked: dict[str, str] = field(default_factory=dict)

    @property
    def good(self) -> bool:
        return not self.problems and not any(check.problem for check in self.shards)


def verify(
    store: StoreReader,
    *,
    shards: Sequence[int] | None = None,
    recompute: float = 0.0,
    root: str | Path | None = None,
    manifest: str | Path | None = None,
    teacher: str | TeacherChoice | None = None,
    model: str | Path | None = None,
    jobs: int = -1,
    digest: str | None = None,
    untrusted: bool = False,
) -> VerifyReport:
    """Check a store against its own receipts and plan.

    Args:
      store: opened.
      shards: only these; None is all, and then what concerns no single shard too.
      recompute: the share of windows, drawn with a fixed seed, that the teacher scores again for comparison.
      root, manifest: where the audio is, and where in it each clip's file; teacher, model: who scores it, with which
        model; None is as this user's own run on this store had it. See `find_sources` and `find_files`.
      jobs: threads for reading, processes for recomputing.
      digest: under which the store was published; another one is a problem.
      untrusted: of a store by somebody else look at every file there is, too; no model is run.
    Raises: ValueError: recompute outside [0, 1], a shard that was never planned, what cannot be asked for together.
      StoreError: to recompute, no audio, or no teacher that is not only the store's word.
      EnvironmentTrouble: audio or machine are out of reach.
    """
    if not 0 <= recompute <= 1:
        raise ValueError(f"--recompute: expected a share from 0 to 1, got {recompute}")
    if untrusted and (recompute or shards is not None):
        raise ValueError("--untrusted: looks at all of a store and runs no model: leave out --recompute and --shard")
    if digest is not None and not is_sha256(digest):
        raise ValueError(f"--digest: expected 64 hexadecimal digits, got {digest!r}")
    strange = [] if digest in (None, store.digest) else [f"expected the store of digest {digest}, got {store.digest}"]
    strange += list(strange_files(store)) if untrusted else []
    try:
        len(store.census.clips)
    except StoreError as e:  # nothing that a shard is held against can be believed
        return VerifyReport(shards=(), problems=(*strange, str(e)), orphans=(), digest=store.digest)
    planned = planned_clips(store, range(store.planned_shards) if shards is None else shards)
    read = joblib.Parallel(n_jobs=jobs, backend="threading")
    checks = read(joblib.delayed(_check_shard)(store, shard, clips, untrusted) for shard, clips in planned.items())
    if recompute:  # shards that are damaged already are left as they are
        wanted = _sample(store, [check.shard for check in checks if not check.problem], recompute)
        sources = find_sources(store, root=root, manifest=manifest, teacher=teacher, model=model)
        drawn = {shard: _only(planned[shard], keys) for shard, keys in wanted.items()}
        again = _recompute(store, drawn, sources, jobs)
        checks = [again.get(check.shard, check) for check in checks]
    problems, orphans = ([], []) if shards is not None else _check_store(store)
    problems += [] if shards is not None else joins_problems(store.storage)
    return VerifyReport(
        shards=tuple(checks),
        problems=(*strange, *problems),
        orphans=tuple(orphans),
        digest=store.digest,
        checked=_what_was_checked(store, checks, untrusted),
    )


def _what_was_checked(store: StoreReader, checks: list[ShardCheck], untrusted: bool) -> dict[str, str]:
    """For people: how much of a store was looked at."""
    census = store.census
    sizes = sum(store.receipts[check.shard].size for check in checks if check.shard in store.receipts)
    return {
        "spec": store.spec.fingerprint(),
        "classes": str(len(store.classes)),
        "plans": f"{len(store.plans)} of {len(census.clips)} clips, {census.windows} windows",
        "receipts": str(len(store.receipts)),
        "bytes": f"{sizes} of {len(checks)} shards",
        **({"files": "names and kinds of all"} if untrusted else {}),
    }


def _check_shard(store: StoreReader, shard: int, clips: list[PlannedClip], untrusted: bool) -> ShardCheck:
    """Receipt, digest, page checksums, schema, keys and values of one shard."""
    try:
        rows = store.read_shard(shard, cached=False, pages=untrusted)
        for problem in _row_problems(store, shard, clips, rows):
            raise StoreError(f"shard {shard} of '{store.storage}': {problem}; {_repair(store, shard)}")
    except StoreError as e:
        return ShardCheck(shard=shard, problem=str(e))
    return ShardCheck(shard=shard)


def _repair(store: StoreReader, shard: int) -> str:
    return f"run `softlabels regenerate {store.storage} --shard {shard}`"


def _row_problems(store: StoreReader, shard: int, clips: list[PlannedClip], rows: ShardRows) -> Iterator[str]:
    receipt = store.receipts[shard]
    if receipt.shard != shard or receipt.fingerprint != store.spec.fingerprint():
        yield f"its receipt is of shard {receipt.shard} with fingerprint {receipt.fingerprint}"
    out = {(entry.clip_id, entry.first_window + i) for entry in receipt.quarantined for i in range(entry.windows)}
    planned = [(clip.clip_id, clip.first_window + i) for clip in clips for i in range(clip.windows)]
    strange = sorted(out - set(planned))
    if strange:
        yield f"its receipt quarantines {strange[0]}, which is not planned here"
    expected = [key for key in planned if key not in out]
    found = _keys(rows)
    if found != expected:
        yield f"expected {len(expected)} windows as planned, in order, got {len(found)}"
    if len(rows) != receipt.rows:
        yield f"its receipt says {receipt.rows} rows, the file has {len(rows)}"
    yield from _value_problems(store, rows)
    if found == expected:
        yield from _receipt_problems(store, shard, clips, rows)


def _value_problems(store: StoreReader, rows: ShardRows) -> Iterator[str]:
    """Numbers that no encoding of a shard writes, beside those that no reading lets pass."""
    probabilities, columns = rows.probabilities, rows.columns()
    if store.spec.layout == "dense" and not np.array_equal(round_probabilities(probabilities), probabilities):
        yield f"expected probabilities up to 0.5 with {store.spec.significand_bits} significand bits"
    for name in store.spec.vectors:
        found, stored = columns[name].view(np.uint32), ROUNDED[name](columns[name]).view(np.uint32)
        if not np.array_equal(found, stored):  # by their bits: there is one NaN
            yield f"expected {name} with {store.spec.significand_bits} significand bits"


def _receipt_problems(store: StoreReader, shard: int, clips: list[PlannedClip], rows: ShardRows) -> Iterator[str]:
    """What a receipt says of audio that the plan says otherwise."""
    audio, labelled = store.receipt(shard).audio, set(rows.clip_id.tolist())
    for clip in clips:
        if clip.clip_id in labelled and audio.get(clip.clip_id, {}).get("file") != clip.sha256:
            yield f"its receipt has other audio of clip {clip.clip_id!r} than the plan"
    unknown = sorted(audio.keys() - {clip.clip_id for clip in clips})
    if unknown:
        yield f"its receipt has audio of clip {unknown[0]!r}, which is not planned here"


def _keys(rows: ShardRows) -> list[tuple[str, int]]:
    return list(zip(rows.clip_id.tolist(), rows.window_index.tolist(), strict=True))


def _check_store(store: StoreReader) -> tuple[list[str], list[str]]:
    """(problems, orphans): receipts nobody planned, plans that were never closed, files nobody names."""
    problems = [
        f"receipt of shard {shard}, which no plan has; delete receipts/{shard:05d}.*.json"
        for shard in store.receipts
        if shard >= store.planned_shards
    ]
    problems += [problem for number, plan in enumerate(store.plans, 1) for problem in _check_plan(store, number, plan)]
    if not store.missing_shards():
        problems += [problem for number in range(1, len(store.plans) + 1) for problem in _check_success(store, number)]
    if store.spec.components:
        try:
            read_components(store.storage, store.spec)
        except StoreError as e:
            problems.append(str(e))
    named = {receipt.file for receipt in store.receipts.values()}
    return problems, [key for key in store.storage.list("shards") if key not in named]


def _check_plan(store: StoreReader, number: int, plan: pa.Table) -> Iterator[str]:
    """Clips that are planned twice in one plan, or not to their end."""
    last = np.append(pc.not_equal(plan["clip_id"][1:], plan["clip_id"][:-1]).to_numpy(), True)[: len(plan)]
    ends = plan.filter(pa.array(last))
    if len(ends["clip_id"].unique()) < len(ends):
        yield f"plan/{number:04d}.parquet has a clip in two places; restore it from a copy"
    usable = ends.filter(pc.equal(ends["reason"], ""))
    window, rate_hz = store.spec.window, usable["rate_hz"].to_numpy()
    start, end = (
        rescale_samples(usable[name].to_numpy(), from_hz=rate_hz, to_hz=window.rate_hz) for name in ("start", "end")
    )
    beyond = np.maximum(0, end - start - window.window_samples)
    counted = 1 + -(-beyond // window.hop_samples)
    planned = usable["first_window"].to_numpy() + usable["windows"].to_numpy()
    if not np.array_equal(planned, counted):
        row = int(np.argmax(planned != counted))
        yield (
            f"plan/{number:04d}.parquet: clip {usable['clip_id'][row].as_py()!r} has {planned[row]} windows, by its "
            f"samples and the spec {counted[row]}; restore it from a copy"
        )


def _check_success(store: StoreReader, number: int) -> Iterator[str]:
    key = f"_SUCCESS-{number:04d}.json"
    if not store.storage.exists(key):
        yield f"{key} is missing; `softlabels run` writes it"
        return
    try:
        found = store.storage.get(key)
        named = any(store.receipts[shard].plan for shard in store.plan_shards(number))  # not so in stores of before
        fits = found in [store.success_bytes(number, with_plan=how) for how in {True, named}]
    except StoreError:  # a bucket noticed that it is damaged
        fits = False
    if not fits:
        yield f"{key} does not fit the receipts: one of them, or this file, was edited; restore it from a copy"


def _sample(store: StoreReader, shards: list[int], share: float) -> dict[int, set[tuple[str, int]]]:
    """shard -> keys of the labelled windows drawn; at least one in all."""
    index, clip_ids = store.index, store.index.clips["clip_id"]
    entries = np.nonzero((index.state == LABELLED) & np.isin(index.shard, shards))[0]
    order = np.random.Generator(np.random.PCG64(SAMPLE_SEED)).permutation(entries)
    wanted: dict[int, set[tuple[str, int]]] = {}
    for entry in order[: int(np.ceil(share * len(entries)))]:
        key = (clip_ids[index.stored_clip[entry]].as_py(), int(index.window_index[entry]))
        wanted.setdefault(int(index.shard[entry]), set()).add(key)
    return wanted


def _only(clips: list[PlannedClip], keys: set[tuple[str, int]]) -> list[PlannedClip]:
    """The planned clips cut down to single windows that were drawn."""
    return [
        dataclasses.replace(clip, first_window=clip.first_window + i, windows=1)
        for clip in clips
        for i in range(clip.windows)
        if (clip.clip_id, clip.first_window + i) in keys
    ]


def _recompute(
    store: StoreReader, drawn: dict[int, list[PlannedClip]], sources: Sources, jobs: int
) -> dict[int, ShardCheck]:
    """shard -> what became of its windows that were drawn. Raises: StoreError: none of the recordings is there."""
    ids = {shard: {clip.clip_id: None for clip in clips} for shard, clips in drawn.items()}
    clips = [clip for each in drawn.values() for clip in each]
    places = find_files(clips, sources.clips, sources.root, needed={clip.clip_id for clip in clips})
    lost = {shard: text for shard in drawn if (text := some_of(places.lost, ids[shard]))}
    tasks = [shard_task(store, s, places.now(drawn[s]), sources=sources) for s in drawn if s not in lost]
    checks = {check.shard: check for check in in_processes(partial(_recompute_shard, store), tasks, jobs)}
    for shard, text in lost.items():
        checks[shard] = ShardCheck(shard=shard, problem=f"shard {shard} cannot be recomputed: {text}; {NEXT}")
    for shard, check in checks.items():
        if check.problem and (note := some_of(places.others, ids[shard])):
            checks[shard] = dataclasses.replace(check, problem=f"{check.problem}; {note}")
    return checks


def _recompute_shard(store: StoreReader, task: ShardTask) -> ShardCheck:
    """Compare stored rows with what the teacher gives now."""
    try:
        with theirs_explained(task.teacher.kind, "scoring"):
            data, receipt = make_shard(task)
    except EnvironmentTrouble:
        raise  # says nothing of the store: tried again when the machine is well
    except SoftLabelsError as e:
        return ShardCheck(shard=task.shard, problem=f"shard {task.shard} cannot be recomputed: {e}")
    windows = len(task.clips)
    if receipt.quarantined:
        first = receipt.quarantined[0]
        what = f"{first.clip_id}, window {first.first_window}, cannot be recomputed: {first.reason}: {first.detail}"
        return ShardCheck(shard=task.shard, problem=f"shard {task.shard}: {what}", recomputed=windows)
    again = decode_shard(data, task.spec, len(store.classes))
    stored = store.read_shard(task.shard)
    row_of = {key: row for row, key in enumerate(_keys(stored))}
    likeness = compare_rows(stored.take(np.array([row_of[key] for key in _keys(again)])), again)
    problem = ""
    if likeness == "different":
        problem = (
            f"shard {task.shard} of '{store.storage}': the teacher now says something else on {windows} windows; "
            f"{_repair(store, task.shard)}, which says what differs"
        )
    return ShardCheck(shard=task.shard, problem=problem, recomputed=windows, likeness=likeness)
