"""`softlabels run`."""

import contextlib
import dataclasses
import math
import shlex
import sys
import time
from argparse import Namespace
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from pipeline.drafts.folder import clips_of_folder, root_of
from pipeline.labelling.worker import ShardStatus
from pipeline.planning.prepare import LabelOptions, prepare, read_clips
from pipeline.running.closing import RunSummary, finish
from pipeline.running.forecast import forecast
from pipeline.running.job_array import ArrayTask
from pipeline.running.run import RunEvents, RunOptions, run
from pipeline.teachers.teacher import Teacher, TeacherChoice
from pipeline.terminal.flags import MANIFEST, STORE, Described, add_command, add_flags, filled
from pipeline.terminal.printing import named, print_line, print_results, progress_bar, tell
from softlabels.audio.decode import AudioBudget
from softlabels.corpus.manifest import Clip, read_manifest, write_manifest
from softlabels.errors import ManifestError
from softlabels.path_kinds import STORE_FILE
from softlabels.storage.location import Location, location
from softlabels.windows import WindowSpec


def gigabytes(text: str) -> int:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("infinite, or no number")
    return round(number * 1e9)


BUDGET: Described = {
    "max_hours": {"metavar": "H", "help": "default 25"},
    "max_bytes": {"flags": "--max-gigabytes", "type": gigabytes, "metavar": "GB", "help": "default 16"},
    "max_channels": {"metavar": "N", "help": "default 16"},
    "min_rate_hz": {"metavar": "HZ", "help": "default 8000"},
    "max_rate_hz": {"metavar": "HZ", "help": "default 384000"},
    "follow_links": {"help": "to lie outside the audio root, as in the cache of DVC or git-annex"},
}


def add_run(commands: Any) -> None:
    command = add_command(commands, _run, store=False)
    command.add_argument("manifest", nargs="?", default=MANIFEST, metavar="MANIFEST|DIR", help=f"default {MANIFEST}")
    command.add_argument("-o", "--store", default=STORE, help=f"the store, a folder or s3://..., default {STORE}")
    add_flags(command.add_argument_group("teacher"), TeacherChoice)
    add_flags(command.add_argument_group("labels (fixed once the store is made)"), LabelOptions)
    job = command.add_argument_group("job")
    job.add_argument("--root", metavar="DIR|URL", help="what paths are relative to, default the manifest's folder")
    job.add_argument(
        "--allow-quarantined", default="0", metavar="N", help="exit 0 with up to N windows (or N%%) quarantined"
    )
    add_flags(job, RunOptions)
    job.add_argument("--finish", action="store_true", help="label nothing; close a store that such runs have labelled")
    job.add_argument("--dry-run", action="store_true", help="show the plan and what it will cost; label nothing")
    budget = command.add_argument_group("audio budget (a file that asks for more is quarantined)")
    add_flags(budget, AudioBudget, BUDGET)


def _run(args: Namespace) -> int:
    """Label every clip of a manifest; finished shards are left alone.

    examples:
      softlabels run                                  data_manifest.csv -> soft_labels, BirdNET as the teacher
      softlabels run recordings/ -o labels            a folder with one folder a class
      softlabels run --dry-run                        shards, windows, bytes and time, without labelling
      softlabels run --teacher litert --model m.tflite --labels m.txt --rate 32000 --activation sigmoid --outputs logits
      softlabels run --teacher my_module:my_teacher   a teacher of your own
      softlabels run --task $SLURM_ARRAY_TASK_ID/100  in a job array, `sbatch --array=0-99`
    Interrupt it at any time: the same command goes on at the first missing shard.
    """
    began, allowed = time.monotonic(), Allowance.parse(args.allow_quarantined)
    if args.finish and args.dry_run:
        raise ValueError("--finish closes a store, which --dry-run would not: leave one of them out")
    problems: tuple[str, ...] = ()
    if args.finish:
        summary = finish(args.store)
    else:
        manifest, root, problems = _manifest_and_root(args)
        choice, labelling = filled(TeacherChoice, args), filled(LabelOptions, args)
        task, budget = ArrayTask.parse(args.task) if args.task else None, filled(AudioBudget, args)
        options = filled(RunOptions, args, task=task, budget=budget)
        made_of = {"root": root, "labelling": labelling}
        if args.dry_run:
            clips, made_of["root"] = read_clips(manifest, root)
            _dry_run(args, clips=clips, choice=choice, budget=budget, **made_of)
            return 0
        with RunConsole() as console, contextlib.redirect_stdout(sys.stderr):  # a teacher of somebody's own may print
            how = {"teacher": choice, "options": options, "events": console.events}
            summary = filled(run, args, manifest=manifest, **made_of, **how)
    named_as = Path(MANIFEST) if Path(args.manifest).is_dir() else Path(args.manifest)
    _print_summary(summary, seconds=time.monotonic() - began, manifest=named_as, as_json=args.json)
    if summary.resumable:
        return 3
    failed = summary.stopped or summary.missing or summary.different or summary.deferred or problems
    return 1 if failed or not allowed.covers(summary) else 0


def _dry_run(args: Namespace, **made_of: Any) -> None:
    """Print what is still to do, and what the same command would do without --dry-run."""
    with RunConsole() as console, contextlib.redirect_stdout(sys.stderr):
        prepared = filled(prepare, args, on_probed=console.on_probe, **made_of)
        expected = forecast(prepared, jobs=args.jobs)
    fields = dataclasses.asdict(expected) | {"seconds": round(expected.seconds), "store": args.store}
    print_results(args.json, **fields)
    make = "make the store" if prepared.store is None else "go on with the store"
    tell(f"nothing was written; without --dry-run the same command would {make} '{args.store}'")


@dataclass(frozen=True, slots=True)
class Allowance:
    """How many windows may be quarantined: so many, or such a share of all planned ones."""

    limit: float
    is_share: bool

    @classmethod
    def parse(cls, text: str) -> "Allowance":
        """Read "12" or "0.1%". Raises: ValueError."""
        try:
            number = float(text.removesuffix("%"))
        except ValueError:
            number = -1.0
        if not 0 <= number < float("inf"):
            raise ValueError(
                f"--allow-quarantined: expected a number of windows or a percentage such as 0.1%, got {text!r}"
            )
        return cls(number / 100, True) if text.endswith("%") else cls(number, False)

    def covers(self, summary: RunSummary) -> bool:
        return summary.quarantined <= self.limit * (summary.windows if self.is_share else 1)


def _manifest_and_root(args: Namespace) -> tuple[Path | list[Clip], Location | None, tuple[str, ...]]:
    """What to label, and what was left out of a folder, of which a manifest is written, but for a dry run."""
    folder, named_root = Path(args.manifest), location(args.root) if args.root else None
    if not folder.is_dir() or (folder / STORE_FILE).is_file():
        return folder, named_root, ()
    root = root_of(folder, Path(MANIFEST))
    try:
        found = clips_of_folder(folder, relative_to=root)
    except ManifestError as e:
        if not (folder / MANIFEST).is_file():
            raise
        raise ManifestError(f"{e}; `softlabels run {folder / MANIFEST}` takes the manifest in it") from e
    if Path(MANIFEST).exists() and read_manifest(MANIFEST) != found.clips:
        update = f"softlabels manifest {shlex.quote(str(folder))} --update"
        raise ManifestError(
            f"'{MANIFEST}' is there already and says something else than the folder '{folder}': label what it says "
            f"with `softlabels run {MANIFEST}`; `{update}` adds new files to it and keeps what you corrected"
        )
    if not Path(MANIFEST).exists():
        if not args.dry_run:
            write_manifest(found.clips, MANIFEST)
        tell(f"softlabels run: {'would write' if args.dry_run else 'wrote'} {MANIFEST}, {len(found.clips)} clips")
        for line in found.remarks:
            tell(line)
    for line in found.problems:
        tell(line)
    return found.clips if args.dry_run else Path(MANIFEST), named_root or root, found.problems


class RunConsole(AbstractContextManager):
    """Progress of a run: files probed, then windows labelled with windows/s, x real time and time left."""

    def __init__(self) -> None:
        self._bar: tqdm | None = None
        self._hop_s = 0.0
        self._there = self._planned = 0  # windows
        self.events = RunEvents(
            on_probe=self.on_probe,
            on_fit=self._on_fit,
            on_resume=self._on_resume,
            on_plan=self._on_plan,
            on_shard=self._on_shard,
        )

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._close()
        if self._planned and kind is not None and issubclass(kind, KeyboardInterrupt):
            tell(f"{self._there:,} of {self._planned:,} windows are there")

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def on_probe(self, files: int, total: int) -> None:
        """Some more of the files have been probed."""
        if self._bar is None and files < total:
            self._bar = progress_bar(total, "files probed")
        if self._bar is not None:
            self._bar.update(files)

    def _on_fit(self, windows: int, components: int | None) -> None:
        self._close()
        found = f"{components} fitted on" if components else "none, too little varies in"
        what = "scoring, once for this store," if components is None else found
        tell(f"components: {what} {windows:,} windows")

    def _on_resume(self, there: int, planned: int) -> None:
        self._there, self._planned = there, planned

    def _on_plan(self, windows: int, shards: int, window: WindowSpec, teacher: Teacher) -> None:
        self._close()
        if shards:  # an unchanged store is worth one line in all
            tell(f"teacher: {teacher.name}, {len(teacher.classes):,} classes")
            if teacher.notice:
                tell(f"notice: {teacher.notice}")
            if self._there:
                tell(f"{self._there:,} of {self._planned:,} windows are there")
            tell(f"labelling {windows:,} windows in {shards:,} shards")
            self._hop_s = window.hop_s
            self._bar = progress_bar(windows, "windows")

    def _on_shard(self, status: ShardStatus) -> None:
        if self._bar is None:
            return
        if status.outcome in ("committed", "equal", "equivalent"):
            self._there += status.planned
        done, elapsed = self._bar.n + status.planned, self._bar.format_dict["elapsed"]
        speed = done * self._hop_s / max(elapsed, 1e-9)
        self._bar.set_postfix_str(f"{speed:.{0 if speed >= 10 else 1}f}x real time", refresh=False)
        self._bar.update(status.planned)
        if status.quarantined:
            tell(f"quarantined {status.quarantined} windows, first {status.message}")
        elif status.outcome == "deferred":
            tell(f"put off shard {status.shard}: {status.message}")


def _print_summary(summary: RunSummary, *, seconds: float, manifest: Path, as_json: bool) -> None:
    """What a run did, and what to type next; one line if there was nothing to do."""
    busy = summary.shards_done or summary.missing or summary.stopped or summary.different or summary.deferred
    if not busy and not as_json:
        print_line(
            f"{summary.store}: nothing to do, {summary.clips:,} clips, {summary.labelled:,} windows labelled, "
            f"{summary.quarantined:,} quarantined"
        )
        return
    noted = {"noted": len(summary.notes)} if summary.notes else {}
    print_results(
        as_json,
        named(summary, *(each.name for each in dataclasses.fields(summary))),
        **named(summary, "clips", "windows", "labelled", "new_windows", "quarantined", "missing"),
        **noted,
        seconds=round(seconds, 1),
        bytes_per_window=round(summary.shard_bytes / max(1, summary.labelled)),
        store=summary.store,
    )
    for line in _advice(summary, manifest) if busy else ():
        tell(line)


def _advice(summary: RunSummary, manifest: Path) -> Iterator[str]:
    if summary.stopped:
        yield f"stopped early: {summary.stopped}"
    if summary.different:
        yield (
            f"shards {', '.join(map(str, summary.different[:10]))} came out with other bytes than those committed, "
            "which stay: another machine, another package version, or a fault"
        )
    if summary.numerics_classes > 1:
        yield f"{summary.numerics_classes} numerics classes made this store: its labels are equal within rounding"
    if summary.deferred:
        yield f"{len(summary.deferred):,} put off, the environment is at fault: {summary.deferred[0]}"
    if summary.notes:
        clip_id, note = min(summary.notes.items())
        yield f"noted: {clip_id}: {note} ({len(summary.notes):,} in all: softlabels inspect {summary.store} --notes)"
    if summary.left:
        yield f"{summary.left:,} clips in the store are no longer in the manifest; their labels are kept"
    if summary.missing or summary.deferred:
        yield "next: the same command again, it goes on from here"
    elif summary.quarantined:
        yield f"next: softlabels inspect {summary.store} --quarantine"
    else:
        yield f"next, in Python: softlabels.open({str(summary.store)!r}).join({str(manifest)!r})"
