"""The command line: flags in, exit code out. With `console.py` the only place that prints.

Exit codes: 0 done; 1 problems found; 2 wrong usage or unusable input, nothing labelled; 3 stopped by a
scheduler or a full disk, resumable; 130 interrupted.
"""

import argparse
import json
import shlex
import signal
import sys
import time
from pathlib import Path

from pipeline.console import (
    RunConsole,
    describe,
    print_contents,
    print_forecast,
    print_quarantine,
    print_regenerated,
    print_summary,
    print_verified,
)
from pipeline.folder import clips_of_folder
from pipeline.forecast import forecast
from pipeline.prepare import LabelOptions, prepare, read_clips
from pipeline.regenerate import regenerate
from pipeline.supervisor import RunOptions, RunSummary, run
from pipeline.teachers import TeacherChoice
from pipeline.verify import verify
from softlabels.audio import DEFAULT_BUDGET, AudioBudget
from softlabels.errors import ManifestError, SoftLabelsError, StorageFullError
from softlabels.manifest import Clip, read_manifest, write_manifest
from softlabels.store import open as open_store

MANIFEST, STORE = "data_manifest.csv", "soft_labels"


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    parser = _parser()
    args = parser.parse_args(argv)
    for warning in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(warning, _terminate)
    try:
        return args.command(args)
    except StorageFullError as e:
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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="softlabels",
        description="Run a teacher over an audio corpus once and keep its soft labels for training students.",
        epilog="Start with `softlabels run`; every command explains itself with --help. Exit codes: 0 done, "
        "1 problems found, 2 wrong usage, 3 stopped by the machine and resumable.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_run(commands)
    _add_manifest(commands)
    _add_inspect(commands)
    _add_verify(commands)
    _add_regenerate(commands)
    return parser


def _add_command(commands, name: str, function, summary: str, epilog: str = "") -> argparse.ArgumentParser:
    command = commands.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.",
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.set_defaults(command=function, name=name)
    return command


def _add_run(commands) -> None:
    run = _add_command(
        commands,
        "run",
        _run,
        "label every clip of a manifest; finished shards are left alone",
        epilog="""examples:
  softlabels run                                  data_manifest.csv -> soft_labels, BirdNET as the teacher
  softlabels run recordings/ -o labels            a folder with one folder a class
  softlabels run --dry-run                        shards, windows, bytes and time, without labelling
  softlabels run --teacher litert --model m.tflite --labels m.txt --rate 32000 \\
                 --activation sigmoid --outputs logits
  softlabels run --teacher my_module:my_teacher   a teacher of your own
Interrupt it at any time: the same command goes on at the first missing shard.""",
    )
    run.add_argument("manifest", nargs="?", default=MANIFEST, metavar="MANIFEST|DIR", help=f"default {MANIFEST}")
    run.add_argument("-o", "--store", default=STORE, help=f"the store to make or go on with, default {STORE}")
    teacher = run.add_argument_group("teacher")
    teacher.add_argument("--teacher", default="birdnet", help="birdnet, litert or module:factory; default birdnet")
    teacher.add_argument("--model", help="the model file; birdnet finds its own")
    teacher.add_argument("--labels", help="the model's class names, one a line, in the order of its outputs")
    teacher.add_argument("--rate", type=int, metavar="HZ", help="litert: the sample rate the model expects")
    teacher.add_argument("--activation", choices=["sigmoid", "softmax"], help="litert: independent or exclusive")
    teacher.add_argument(
        "--outputs", choices=["logits", "probabilities"], help="litert: before or after the activation"
    )
    teacher.add_argument("--portable", action="store_true", help="equal bytes on any x86-64 CPU, for 1.6 x the time")
    labels = run.add_argument_group("labels (fixed once the store is made)")
    labels.add_argument("--overlap", type=float, metavar="SECONDS", help="of neighbouring windows, default 0")
    labels.add_argument("--layout", choices=["dense", "sparse"], help="all classes, or only those above a threshold")
    labels.add_argument("--min-probability", type=float, metavar="P", help="the threshold of sparse, default 0.0001")
    labels.add_argument("--shard-windows", type=int, metavar="N", help="windows a file; default by corpus, 64 to 1024")
    job = run.add_argument_group("job")
    job.add_argument("--jobs", type=int, default=-1, metavar="N", help="worker processes, default one a core")
    job.add_argument(
        "--root", type=Path, metavar="DIR", help="what paths are relative to, default the manifest's folder"
    )
    job.add_argument("--on-error", choices=["skip", "fail"], default="skip", help="quarantine and go on, or stop")
    job.add_argument(
        "--allow-quarantined", default="0", metavar="N", help="exit 0 with up to N windows (or N%%) quarantined"
    )
    job.add_argument("--retry-quarantined", action="store_true", help="try permanent faults again, not only transient")
    job.add_argument("--strict", action="store_true", help="refuse a machine that rounds differently from the store's")
    job.add_argument("--timeout", type=float, metavar="SECONDS", help="of a shard, default 600 and 10 a window")
    job.add_argument("--backend", choices=["loky", "sequential"], default="loky", help="processes, or all in this one")
    budget = run.add_argument_group("audio budget (a file that asks for more is quarantined)")
    budget.add_argument("--max-hours", type=float, default=DEFAULT_BUDGET.max_hours, metavar="H", help="default 25")
    budget.add_argument("--max-gigabytes", type=float, default=DEFAULT_BUDGET.max_bytes / 1e9, help="default 16")
    budget.add_argument("--max-channels", type=int, default=DEFAULT_BUDGET.max_channels, metavar="N", help="default 16")
    budget.add_argument("--min-rate", type=int, default=DEFAULT_BUDGET.min_rate_hz, metavar="HZ", help="default 8000")
    budget.add_argument("--max-rate", type=int, default=DEFAULT_BUDGET.max_rate_hz, metavar="HZ", help="default 384000")
    job.add_argument("--dry-run", action="store_true", help="show the plan and what it will cost; label nothing")


def _add_manifest(commands) -> None:
    manifest = _add_command(
        commands,
        "manifest",
        _manifest,
        "write a manifest of a folder of recordings, one folder a class",
        epilog="The label of a clip is the name of its folder, kept as it is; folders called noise, silence,\n"
        "background or other are annotated as none of the classes; files in DIR itself are not annotated.",
    )
    manifest.add_argument("folder", type=Path, metavar="DIR", help="searched with all its subfolders")
    manifest.add_argument("-o", "--output", type=Path, default=Path(MANIFEST), help=f"default {MANIFEST}")
    manifest.add_argument("--unlabelled", action="store_true", help="leave every clip not annotated")


def _add_inspect(commands) -> None:
    inspect = _add_command(commands, "inspect", _inspect, "say what a store holds, and what is missing or quarantined")
    inspect.add_argument("store", nargs="?", default=STORE, help=f"default {STORE}")
    inspect.add_argument("--json", action="store_true", help="as one JSON object")
    inspect.add_argument("--quarantine", action="store_true", help="list the quarantined windows, tab-separated")


def _add_verify(commands) -> None:
    verify = _add_command(
        commands,
        "verify",
        _verify,
        "read every byte of a store and hold it against receipts and plan; change nothing",
        epilog="--recompute 0.01 lets the teacher score 1 % of the windows again, drawn with a fixed seed;\n"
        "--shard 17 --recompute 1 a whole shard. Exits 1 on any difference, with the command that repairs it.",
    )
    verify.add_argument("store", nargs="?", default=STORE, help=f"default {STORE}")
    verify.add_argument("--shard", type=int, action="append", metavar="N", help="only this one; may be given again")
    verify.add_argument(
        "--recompute", type=float, default=0.0, metavar="FRACTION", help="windows to score again, 0 to 1"
    )
    verify.add_argument("--json", action="store_true", help="as one JSON object")
    _add_where(verify)


def _add_regenerate(commands) -> None:
    regenerate = _add_command(
        commands,
        "regenerate",
        _regenerate,
        "make shards again from the store's own plan and compare; restore what is damaged",
        epilog="identical   the same bytes; a damaged or deleted file is whole again\n"
        "equivalent  within rounding, as from another CPU class: the stored shard stands\n"
        "different   exit 1, and what differs: audio, packages, numerics class",
    )
    regenerate.add_argument("store", nargs="?", default=STORE, help=f"default {STORE}")
    regenerate.add_argument("--shard", type=int, action="append", required=True, metavar="N", help="may be given again")
    regenerate.add_argument(
        "--accept-equivalent", action="store_true", help="let equivalent bytes become the shard, on record"
    )
    _add_where(regenerate)


def _add_where(command: argparse.ArgumentParser) -> None:
    command.add_argument("--root", type=Path, metavar="DIR", help="where the audio is now, default where it was")
    command.add_argument("--model", type=Path, metavar="PATH", help="where the model is now, default where it was")
    command.add_argument("--jobs", type=int, default=-1, metavar="N", help="default one a core")


def _run(args: argparse.Namespace) -> int:
    began = time.monotonic()
    allowed = _parse_allowed(args.allow_quarantined)
    clips, root = _clips_and_root(args)
    choice, labelling, options = _teacher_choice(args), _label_options(args), _run_options(args)
    with RunConsole() as console:
        if args.dry_run:
            prepared = prepare(
                clips,
                root,
                args.store,
                choice,
                labelling,
                jobs=args.jobs,
                budget=options.budget,
                on_probed=console.events.on_probe,
            )
            expected = forecast(prepared, jobs=args.jobs)
        else:
            summary = run(
                clips,
                args.store,
                teacher=choice,
                jobs=args.jobs,
                root=root,
                labelling=labelling,
                options=options,
                events=console.events,
            )
    if args.dry_run:
        print_forecast(expected, args.store)
        return 0
    print_summary(summary, seconds=time.monotonic() - began, manifest=_manifest_path(args))
    return _exit_code(summary, allowed)


def _teacher_choice(args: argparse.Namespace) -> TeacherChoice:
    return TeacherChoice(
        kind=args.teacher,
        model=args.model,
        labels=args.labels,
        rate_hz=args.rate,
        activation=args.activation,
        outputs=args.outputs,
        portable=args.portable,
    )


def _label_options(args: argparse.Namespace) -> LabelOptions:
    return LabelOptions(
        overlap_s=args.overlap,
        layout=args.layout,
        min_probability=args.min_probability,
        shard_windows=args.shard_windows,
    )


def _run_options(args: argparse.Namespace) -> RunOptions:
    budget = AudioBudget(
        max_hours=args.max_hours,
        max_channels=args.max_channels,
        min_rate_hz=args.min_rate,
        max_rate_hz=args.max_rate,
        max_bytes=round(args.max_gigabytes * 1e9),
    )
    return RunOptions(
        backend=args.backend,
        on_error=args.on_error,
        retry_quarantined=args.retry_quarantined,
        strict=args.strict,
        timeout_s=args.timeout,
        budget=budget,
    )


def _manifest_path(args: argparse.Namespace) -> Path:
    return Path(MANIFEST) if Path(args.manifest).is_dir() else Path(args.manifest)


def _clips_and_root(args: argparse.Namespace) -> tuple[list[Clip], Path]:
    """The clips of the manifest; of a folder, they are written as a manifest on the way."""
    folder = Path(args.manifest)
    if not folder.is_dir():
        return read_clips(folder, args.root)
    clips, root = _clips_of_folder(folder, Path(MANIFEST), unlabelled=False)
    if Path(MANIFEST).exists() and read_manifest(MANIFEST) != clips:
        raise ManifestError(
            f"'{MANIFEST}' is there already and says something else than the folder '{folder}': label what it says "
            f"with `softlabels run {MANIFEST}`, or delete it first"
        )
    if not args.dry_run and not Path(MANIFEST).exists():
        write_manifest(clips, MANIFEST)
        print(f"softlabels run: wrote {MANIFEST}, {len(clips)} clips", file=sys.stderr)
    return clips, args.root or root


def _clips_of_folder(folder: Path, manifest: Path, *, unlabelled: bool) -> tuple[list[Clip], Path]:
    """Clips with paths relative to the manifest's folder where the audio lies below it, else to the audio's."""
    beside = manifest.resolve().parent
    root = beside if folder.resolve().is_relative_to(beside) else folder
    return clips_of_folder(folder, relative_to=root, unlabelled=unlabelled), root


def _parse_allowed(text: str) -> float:
    """Windows that may be quarantined; a share below 0 means percent."""
    try:
        number = float(text.removesuffix("%"))
    except ValueError:
        number = -1.0
    if not 0 <= number < float("inf"):
        raise ValueError(
            f"--allow-quarantined: expected a number of windows or a percentage such as 0.1%, got {text!r}"
        )
    return -number / 100 if text.endswith("%") else number


def _exit_code(summary: RunSummary, allowed: float) -> int:
    limit = -allowed * summary.windows if allowed < 0 else allowed
    if summary.resumable:
        return 3
    failed = summary.stopped or summary.missing or summary.different or summary.deferred
    return 1 if failed or summary.quarantined > limit else 0


def _manifest(args: argparse.Namespace) -> int:
    if args.output.exists():
        raise ManifestError(f"'{args.output}' is there already: delete it first, or name another file with -o")
    clips, root = _clips_of_folder(args.folder, args.output, unlabelled=args.unlabelled)
    write_manifest(clips, args.output)
    classes = {name for clip in clips for name in clip.labels or ()}
    print(f"clips    {len(clips)}\nclasses  {len(classes)}\nwritten  {args.output}")
    beside = root.resolve() == args.output.resolve().parent
    flags = "" if beside else f" --root {shlex.quote(str(root))}"
    named = "" if args.output == Path(MANIFEST) else f" {shlex.quote(str(args.output))}"
    print(f"next: softlabels run{named}{flags}", file=sys.stderr)
    return 0


def _inspect(args: argparse.Namespace) -> int:
    store = open_store(args.store)
    contents = describe(store)
    if args.quarantine:
        print_quarantine(store)
    elif args.json:
        print(json.dumps(contents, indent=2, ensure_ascii=False))
    else:
        print_contents(contents)
    return 1 if contents["missing"] or contents["quarantined"] else 0


def _verify(args: argparse.Namespace) -> int:
    report = verify(
        open_store(args.store),
        shards=args.shard,
        recompute=args.recompute,
        root=args.root,
        model=args.model,
        jobs=args.jobs,
    )
    print_verified(report, as_json=args.json)
    return 0 if report.good else 1


def _regenerate(args: argparse.Namespace) -> int:
    results = regenerate(
        open_store(args.store),
        args.shard,
        root=args.root,
        model=args.model,
        jobs=args.jobs,
        accept_equivalent=args.accept_equivalent,
    )
    print_regenerated(results)
    return 1 if any(result.problem for result in results) else 0
