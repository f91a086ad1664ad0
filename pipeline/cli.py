"""The command line: flags in, exit code out. The only place that prints.

Exit codes: 0 done; 1 problems found; 2 wrong usage or unusable input, nothing labelled; 130 interrupted.
"""

import argparse
import dataclasses
import json
import sys
import time
from collections import Counter
from pathlib import Path

from pipeline.console import RunConsole, print_summary
from pipeline.folder import clips_of_folder
from pipeline.forecast import forecast
from pipeline.supervisor import LabelOptions, RunOptions, RunSummary, prepare, run
from pipeline.teachers import TeacherChoice
from softlabels.errors import ManifestError, SoftLabelsError
from softlabels.index import LABELLED, MISSING, QUARANTINED
from softlabels.manifest import write_manifest
from softlabels.store import SoftLabelStore
from softlabels.store import open as open_store

MANIFEST, STORE = "data_manifest.csv", "soft_labels"


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    parser = _parser()
    args = parser.parse_args(argv)
    try:
        return args.command(args)
    except (SoftLabelsError, ValueError) as e:
        print(f"softlabels {args.name}: {e}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"\nsoftlabels {args.name}: interrupted; the same command goes on from here", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="softlabels",
        description="Run a teacher over an audio corpus once and keep its soft labels for training students.",
        epilog="Start with `softlabels run`; every command explains itself with --help. Exit codes: 0 done, "
        "1 problems found, 2 wrong usage.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_run(commands)
    _add_manifest(commands)
    _add_inspect(commands)
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
    teacher.add_argument("--activation", choices=["sigmoid", "softmax"], help="litert: what the classes are to each other")
    teacher.add_argument("--outputs", choices=["logits", "probabilities"], help="litert: before or after the activation")
    teacher.add_argument("--portable", action="store_true", help="equal bytes on any x86-64 CPU, for 1.6 x the time")
    labels = run.add_argument_group("labels (fixed once the store is made)")
    labels.add_argument("--overlap", type=float, metavar="SECONDS", help="of neighbouring windows, default 0")
    labels.add_argument("--layout", choices=["dense", "sparse"], help="all classes, or only those above a threshold")
    labels.add_argument("--min-probability", type=float, metavar="P", help="the threshold of sparse, default 0.0001")
    labels.add_argument("--shard-windows", type=int, metavar="N", help="windows a file; default by corpus, 16 to 1024")
    job = run.add_argument_group("job")
    job.add_argument("--jobs", type=int, default=-1, metavar="N", help="worker processes, default one a core")
    job.add_argument("--root", type=Path, metavar="DIR", help="what paths are relative to, default the manifest's folder")
    job.add_argument("--on-error", choices=["skip", "fail"], default="skip", help="quarantine and go on, or stop")
    job.add_argument(
        "--allow-quarantined", default="0", metavar="N", help="exit 0 with up to N windows (or N%%) quarantined"
    )
    job.add_argument("--dry-run", action="store_true", help="show the plan and what it will cost; label nothing")


def _add_manifest(commands) -> None:
    manifest = _add_command(
        commands,
        "manifest",
        _manifest,
        "write a manifest of a folder of recordings, one folder a class",
        epilog="The label of a clip is the name of its folder, kept as it is; folders called noise, silence, background\n"
        "or other are annotated as none of the classes; files in DIR itself are not annotated.",
    )
    manifest.add_argument("folder", type=Path, metavar="DIR", help="searched with all its subfolders")
    manifest.add_argument("-o", "--output", type=Path, default=Path(MANIFEST), help=f"default {MANIFEST}")
    manifest.add_argument("--unlabelled", action="store_true", help="leave every clip not annotated")


def _add_inspect(commands) -> None:
    inspect = _add_command(commands, "inspect", _inspect, "say what a store holds, and what is missing or quarantined")
    inspect.add_argument("store", nargs="?", default=STORE, help=f"default {STORE}")
    inspect.add_argument("--json", action="store_true", help="as one JSON object")
    inspect.add_argument("--quarantine", action="store_true", help="list the quarantined windows, tab-separated")


def _run(args: argparse.Namespace) -> int:
    began = time.monotonic()
    allowed = _parse_allowed(args.allow_quarantined)
    manifest, root = _manifest_and_root(args)
    choice = TeacherChoice(
        kind=args.teacher,
        model=args.model,
        labels=args.labels,
        rate_hz=args.rate,
        activation=args.activation,
        outputs=args.outputs,
        portable=args.portable,
    )
    labelling = LabelOptions(
        overlap_s=args.overlap,
        layout=args.layout,
        min_probability=args.min_probability,
        shard_windows=args.shard_windows,
    )
    with RunConsole() as console:
        if args.dry_run:
            options = RunOptions(jobs=args.jobs, root=root)
            prepared = prepare(manifest, args.store, choice, labelling, options, console.events, keep_probes=False)
            plan = forecast(prepared, jobs=args.jobs)
            console.close()
            print_summary(dataclasses.asdict(plan))
            return 0
        summary = run(
            manifest,
            args.store,
            teacher=choice,
            jobs=args.jobs,
            root=root,
            labelling=labelling,
            on_error=args.on_error,
            events=console.events,
        )
    return _conclude(summary, manifest, time.monotonic() - began, allowed)


def _manifest_and_root(args: argparse.Namespace) -> tuple[Path, Path | None]:
    """The manifest to read; for a folder it is written first, unless it is there already and equal."""
    if not Path(args.manifest).is_dir():
        return Path(args.manifest), args.root
    output = Path(MANIFEST)
    text, root = _folder_manifest(Path(args.manifest), output, unlabelled=False)
    if output.exists() and output.read_text(encoding="utf-8") != text:
        raise ManifestError(
            f"'{output}' is there already and differs from the folder '{args.manifest}': use it with "
            f"`softlabels run {output}`, or delete it first"
        )
    if not args.dry_run:
        output.write_text(text, encoding="utf-8")
        print(f"softlabels run: manifest written to {output}", file=sys.stderr)
        return output, args.root or root
    return output, args.root or root
