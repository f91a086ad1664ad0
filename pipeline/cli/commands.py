"""The command line: flags in, exit code out. With `console.py` the only place that prints.

Exit codes: 0 done; 1 problems found; 2 wrong usage or unusable input, nothing labelled; 3 stopped by a
scheduler or a full disk, resumable; 130 interrupted.
"""

import argparse
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.checking.compare import compare
from pipeline.checking.regenerate import regenerate
from pipeline.checking.verify import verify
from pipeline.cli.arguments import MANIFEST, STORE, make_parser
from pipeline.cli.console import (
    RunConsole,
    describe,
    print_advice_for_manifest,
    print_comparison,
    print_contents,
    print_exported,
    print_forecast,
    print_json,
    print_quarantine,
    print_regenerated,
    print_reported,
    print_summary,
    print_verified,
    progress,
)
from pipeline.cli.flags import filled
from pipeline.drafts.class_mapping import DraftRow, draft_mapping, write_draft
from pipeline.drafts.folder import clips_of_folder, with_digests
from pipeline.drafts.manifest import ManifestSource, parse_columns
from pipeline.exports.export import export
from pipeline.planning.prepare import LabelOptions, prepare, read_clips
from pipeline.report.report import ReportOptions, report
from pipeline.running.closing import RunSummary, finish
from pipeline.running.forecast import forecast
from pipeline.running.job_array import ArrayTask
from pipeline.running.run import RunOptions, run
from pipeline.teachers.birdnet import find_birdnet
from pipeline.teachers.litert import read_labels
from pipeline.teachers.teacher import TeacherChoice
from softlabels.audio.decode import AudioBudget
from softlabels.classes.class_list import ClassList
from softlabels.classes.matching import match_classes
from softlabels.corpus.manifest import Clip, read_manifest, write_manifest
from softlabels.errors import ClassListError, EnvironmentTrouble, ManifestError, SoftLabelsError, StorageFullError
from softlabels.soft_label_store import open as open_store
from softlabels.storage.location import Location, location


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    args = make_parser().parse_args(argv)
    for warning in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(warning, _terminate)
    try:
        return COMMANDS[args.name](args)
    except (StorageFullError, EnvironmentTrouble) as e:
        print(f"softlabels {args.name}: {e}", file=sys.stderr)
        return 3
    except (SoftLabelsError, ValueError, OSError) as e:
        print(f"softlabels {args.name}: {e}", file=sys.stderr)
        return 2
    except Terminated as e:
        print(f"\nsoftlabels {args.name}: stopped by {e}; the same command goes on from here", file=sys.stderr)
        return 3
    except KeyboardInterrupt:
        print(f"\nsoftlabels {args.name}: interrupted; the same command goes on from here", file=sys.stderr)
        return 130


class Terminated(KeyboardInterrupt):
    """A scheduler's warning; unwinds like Ctrl-C."""


def _terminate(number: int, _frame: object) -> None:
    raise Terminated(signal.Signals(number).name)


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


def _run(args: argparse.Namespace) -> int:
    began = time.monotonic()
    allowed = Allowance.parse(args.allow_quarantined)
    if args.finish:
        summary = finish(args.store)
    else:
        clips, root = _clips_and_root(args)
        choice, labelling = filled(TeacherChoice, args), filled(LabelOptions, args)
        task = ArrayTask.parse(args.task) if args.task else None
        options = filled(RunOptions, args, task=task, budget=filled(AudioBudget, args))
        with RunConsole() as console:
            what = {"jobs": args.jobs, "labelling": labelling, "root": root}
            if args.dry_run:
                prepared = prepare(
                    clips, store=args.store, choice=choice, **what, budget=options.budget, on_probed=console.on_probe
                )
                expected = forecast(prepared, jobs=args.jobs)
            else:
                summary = run(clips, args.store, teacher=choice, **what, options=options, events=console.events)
        if args.dry_run:
            print_forecast(expected, args.store)
            return 0
    print_summary(summary, seconds=time.monotonic() - began, manifest=_manifest_path(args))
    if summary.resumable:
        return 3
    failed = summary.stopped or summary.missing or summary.different or summary.deferred
    return 1 if failed or not allowed.covers(summary) else 0


def _manifest_path(args: argparse.Namespace) -> Path:
    return Path(MANIFEST) if Path(args.manifest).is_dir() else Path(args.manifest)


def _clips_and_root(args: argparse.Namespace) -> tuple[list[Clip], Location]:
    """The clips of the manifest; of a folder, they are written as a manifest on the way."""
    folder = Path(args.manifest)
    if not folder.is_dir():
        return read_clips(folder, args.root)
    root = _root_of(folder, Path(MANIFEST))
    clips = clips_of_folder(folder, relative_to=root)
    if Path(MANIFEST).exists() and read_manifest(MANIFEST) != clips:
        raise ManifestError(
            f"'{MANIFEST}' is there already and says something else than the folder '{folder}': label what it says "
            f"with `softlabels run {MANIFEST}`, or delete it first"
        )
    if not args.dry_run and not Path(MANIFEST).exists():
        write_manifest(clips, MANIFEST)
        print(f"softlabels run: wrote {MANIFEST}, {len(clips)} clips", file=sys.stderr)
    return clips, location(args.root) if args.root else root


def _root_of(folder: Path, manifest: Path) -> Path:
    """What paths are relative to: the manifest's folder where the audio lies below it, else the audio's."""
    beside = manifest.resolve().parent
    return beside if folder.resolve().is_relative_to(beside) else folder


def _manifest(args: argparse.Namespace) -> int:
    if args.output.exists():
        raise ManifestError(f"'{args.output}' is there already: delete it first, or name another file with -o")
    root, columns = _root_of(args.folder, args.output), parse_columns(args.column)
    source = filled(ManifestSource, args, root=root, columns=columns)
    found = source.read(split=args.split, seed=args.seed)
    clips = found.clips
    if args.sha256:
        with progress(len({clip.path for clip in clips}), "files") as on_files:
            clips = with_digests(clips, source.root, jobs=args.jobs, on_files=on_files)
    write_manifest(clips, args.output)
    classes = {name for clip in clips for name in clip.labels or ()}
    print(f"clips    {len(clips)}\nclasses  {len(classes)}\nwritten  {args.output}")
    for line in (*found.remarks, *found.problems):
        print(line, file=sys.stderr)
    print_advice_for_manifest(args.output, source)
    return 1 if found.problems else 0


def _classes(args: argparse.Namespace) -> int:
    student, (source, teacher) = ClassList.from_file(args.classes), _teacher_classes(args.against)
    rows = draft_mapping(student, teacher)
    write_draft(rows, args.output)
    how, looks = Counter(row.how for row in rows), [row for row in rows if row.look]
    found = {name: how.pop(name, 0) for name in ("exact", "scientific name", "common name")}
    lacking = how.pop("", 0)
    fields = {"classes": len(rows), "against": f"{source} ({len(teacher):,} classes)", **found}
    fields |= {"guessed": how.total(), **{f"  {name}": count for name, count in how.items()}}
    fields |= {"not found": lacking, "to look at": len(looks), "written": args.output}
    for name, value in fields.items():
        print(f"{name[:2] + name[2:].replace(' ', '_'):<19}{value}")
    for line in _class_advice(args, looks, student, teacher):
        print(line, file=sys.stderr)
    return 1 if looks else 0


def _teacher_classes(against: str | None) -> tuple[str, ClassList]:
    """What to call the teacher's list, and the list: of a store, a text file or BirdNET."""
    if against is None:
        against = STORE if (Path(STORE) / "store.json").is_file() else "birdnet"
    if Path(against).is_file():
        return against, ClassList.from_file(against)
    if against == "birdnet":
        return against, read_labels(find_birdnet()[1])
    return against, open_store(against).classes


def _class_advice(
    args: argparse.Namespace, looks: list[DraftRow], student: ClassList, teacher: ClassList
) -> Iterator[str]:
    """What is odd about the list, the first ten rows to look at, and what to type next."""
    try:
        yield from match_classes(student, teacher, min_coverage=0).notes
    except ClassListError as e:  # two classes are one for the teacher: the draft's reader has to choose
        yield str(e)
    for row in looks[:10]:
        guess = f"{row.teacher_class!r} by {row.how}?" if row.teacher_class else "not found"
        yield f"look: {row.student_class!r}: {guess}"
    if len(looks) > 10:
        yield f"look: ... and {len(looks) - 10} more"
    join = f"store.join({MANIFEST!r}, classes={args.classes!r}"
    if looks:
        yield f"next: correct the {len(looks)} rows of {args.output} that say look, then, in Python:"
        yield f"  {join}, mapping={str(args.output)!r})"
    else:
        yield f"next, in Python: {join}); {args.output} is needed only where you change it"


def _inspect(args: argparse.Namespace) -> int:
    store = open_store(args.store)
    contents = describe(store)
    if args.quarantine:
        print_quarantine(store)
    elif args.json:
        print_json(contents)
    else:
        print_contents(contents)
    return 1 if contents["missing"] or contents["quarantined"] else 0


def _report(args: argparse.Namespace) -> int:
    store = open_store(args.store)
    options = filled(
        ReportOptions,
        args,
        manifest=args.manifest or (MANIFEST if Path(MANIFEST).is_file() else None),
        other=args.other and open_store(args.other),
    )
    with progress(len(store), "windows") as on_windows:
        done = report(store, args.output, options, on_windows=on_windows)
    print_reported(done, args.output, options)
    return 0


def _verify(args: argparse.Namespace) -> int:
    report = filled(verify, args, store=open_store(args.store))
    print_verified(report, as_json=args.json)
    return 0 if report.good else 1


def _regenerate(args: argparse.Namespace) -> int:
    results = filled(regenerate, args, store=open_store(args.store))
    print_regenerated(results)
    return 1 if any(result.problem for result in results) else 0


def _export(args: argparse.Namespace) -> int:
    store = open_store(args.store)
    with progress(len(store), "windows") as on_windows:
        done = filled(export, args, store=store, on_windows=on_windows)
    print_exported(done, args.output, store)
    return 1 if store.census.missing else 0


def _compare(args: argparse.Namespace) -> int:
    a, b = open_store(args.a), open_store(args.b)
    with progress(len(a), "windows") as on_windows:
        found = compare(a, b, on_windows=on_windows)
    if args.json:
        print_json(found.to_json())
    else:
        print_comparison(found)
    return 0


COMMANDS = {
    "run": _run,
    "manifest": _manifest,
    "classes": _classes,
    "inspect": _inspect,
    "report": _report,
    "verify": _verify,
    "regenerate": _regenerate,
    "export": _export,
    "compare": _compare,
}
