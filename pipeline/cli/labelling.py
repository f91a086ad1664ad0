"""`softlabels run`."""

import dataclasses
import math
import time
from argparse import Namespace
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from pipeline.cli.flags import MANIFEST, STORE, Described, add_command, add_flags, filled
from pipeline.cli.inputs import root_of
from pipeline.cli.printing import print_fields, print_line, progress_bar, tell, tell_above
from pipeline.drafts.folder import clips_of_folder, folder_remarks, left_out
from pipeline.labelling.worker import ShardStatus
from pipeline.planning.prepare import LabelOptions, prepare, read_clips
from pipeline.running.closing import RunSummary, finish
from pipeline.running.forecast import forecast
from pipeline.running.job_array import ArrayTask
from pipeline.running.run import RunEvents, RunOptions, run
from pipeline.teachers.teacher import Teacher, TeacherChoice
from softlabels.audio.decode import AudioBudget
from softlabels.corpus.manifest import Clip, read_manifest, write_manifest
from softlabels.errors import ManifestError
from softlabels.storage.location import Location, location
from softlabels.windows import WindowSpec


def gigabytes(text: str) -> int:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("infinite, or no number")
    return round(number * 1e9)


BUDGET: Described = {
    "max_hours": {"metavar": "H", "help": "default 25"},
    "max_bytes": {"flags": "--max-gigabytes", "type": gigabytes, "help": "default 16"},
    "max_channels": {"metavar": "N", "help": "default 16"},
    "min_rate_hz": {"metavar": "HZ", "help": "default 8000"},
    "max_rate_hz": {"metavar": "HZ", "help": "default 384000"},
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
      softlabels run --teacher litert --model m.tflite --labels m.txt --rate 32000 \\
                     --activation sigmoid --outputs logits
      softlabels run --teacher my_module:my_teacher   a teacher of your own
      softlabels run --task $SLURM_ARRAY_TASK_ID/100  in a job array, `sbatch --array=0-99`
    Interrupt it at any time: the same command goes on at the first missing shard.
    """
    began, allowed = time.monotonic(), Allowance.parse(args.allow_quarantined)
    if args.finish:
        summary = finish(args.store)
    else:
        clips, root = _clips_and_root(args)
        choice, labelling = filled(TeacherChoice, args), filled(LabelOptions, args)
        task, budget = ArrayTask.parse(args.task) if args.task else None, filled(AudioBudget, args)
        options = filled(RunOptions, args, task=task, budget=budget)
        with RunConsole() as console:
            if args.dry_run:
                how = {"choice": choice, "budget": budget, "on_probed": console.on_probe}
                prepared = filled(prepare, args, clips=clips, root=root, labelling=labelling, **how)
                expected = forecast(prepared, jobs=args.jobs)
            else:
                how = {"teacher": choice, "options": options, "events": console.events}
                summary = filled(run, args, manifest=clips, root=root, labelling=labelling, **how)
        if args.dry_run:
            print_fields(**dataclasses.asdict(expected) | {"seconds": f"{expected.seconds:,.0f}"}, store=args.store)
            tell("nothing was labelled; the same command without --dry-run does it")
            return 0
    manifest = Path(MANIFEST) if Path(args.manifest).is_dir() else Path(args.manifest)
    _print_summary(summary, seconds=time.monotonic() - began, manifest=manifest)
    if summary.resumable:
        return 3
    failed = summary.stopped or summary.missing or summary.different or summary.deferred
    return 1 if failed or not allowed.covers(summary) else 0


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


def _clips_and_root(args: Namespace) -> tuple[list[Clip], Location]:
    """The clips of the manifest; of a folder, they are written as a manifest on the way."""
    folder = Path(args.manifest)
    if not folder.is_dir():
        return read_clips(folder, args.root)
    root = root_of(folder, Path(MANIFEST))
    clips = clips_of_folder(folder, relative_to=root)
    if Path(MANIFEST).exists() and read_manifest(MANIFEST) != clips:
        raise ManifestError(
            f"'{MANIFEST}' is there already and says something else than the folder '{folder}': label what it says "
            f"with `softlabels run {MANIFEST}`, or delete it first"
        )
    if not args.dry_run and not Path(MANIFEST).exists():
        write_manifest(clips, MANIFEST)
        tell(f"softlabels run: wrote {MANIFEST}, {len(clips)} clips")
        for line in (*folder_remarks(clips), *left_out(folder)):
            tell(line)
    return clips, location(args.root) if args.root else root


class RunConsole(AbstractContextManager):
    """Progress of a run: files probed, then windows labelled with windows/s, x real time and time left."""

    def __init__(self) -> None:
        self._bar: tqdm | None = None
        self._hop_s = 0.0
        self.events = RunEvents(
            on_probe=self.on_probe, on_fit=self._on_fit, on_plan=self._on_plan, on_shard=self._on_shard
        )

    def __exit__(self, *_: object) -> None:
        self._close()

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

    def _on_plan(self, windows: int, shards: int, window: WindowSpec, teacher: Teacher) -> None:
        self._close()
        if shards:  # an unchanged store is worth one line in all
            tell(f"teacher: {teacher.name}, {len(teacher.classes):,} classes")
            if teacher.notice:
                tell(f"notice: {teacher.notice}")
            tell(f"labelling {windows:,} windows in {shards:,} shards")
            self._hop_s = window.hop_s
            self._bar = progress_bar(windows, "windows")

    def _on_shard(self, status: ShardStatus) -> None:
        if self._bar is None:
            return
        self._bar.update(status.planned)
        elapsed = self._bar.format_dict["elapsed"]
        self._bar.set_postfix_str(f"{self._bar.n * self._hop_s / max(elapsed, 1e-9):,.0f} x real time")
        if status.quarantined:
            tell_above(self._bar, f"quarantined {status.quarantined} windows, first {status.message}")
        elif status.outcome == "deferred":
            tell_above(self._bar, f"put off shard {status.shard}: {status.message}")


def _print_summary(summary: RunSummary, *, seconds: float, manifest: Path) -> None:
    """What a run did, and what to type next; one line if there was nothing to do."""
    if not (summary.shards_done or summary.missing or summary.stopped or summary.different or summary.deferred):
        print_line(
            f"{summary.store}: nothing to do, {summary.clips:,} clips, {summary.labelled:,} windows labelled, "
            f"{summary.quarantined:,} quarantined"
        )
        return
    print_fields(
        clips=summary.clips,
        windows=summary.windows,
        labelled=f"{summary.labelled:,} ({summary.new_windows:,} by this run)",
        quarantined=summary.quarantined,
        missing=summary.missing,
        **({"noted": len(summary.notes)} if summary.notes else {}),
        seconds=f"{seconds:,.1f}",
        bytes_per_window=f"{summary.shard_bytes / max(1, summary.labelled):,.0f}",
        store=summary.store,
    )
    for line in _advice(summary, manifest):
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
