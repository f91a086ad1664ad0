"""What is made of a store: `softlabels report` and `softlabels export`."""

from argparse import Namespace
from pathlib import Path
from typing import Any

from pipeline.exports.export import THRESHOLD, export
from pipeline.report.report import ReportOptions, report
from pipeline.terminal.flags import MANIFEST, Described, add_command, add_flags, filled
from pipeline.terminal.printing import named, print_results, progress, tell
from softlabels.soft_label_store import open as open_store


def add_report(commands: Any) -> None:
    command = add_command(commands, _report)
    command.add_argument("-o", "--output", type=Path, default=Path("report.html"), help="default report.html, replaced")
    add_flags(command, ReportOptions)


def _report(args: Namespace) -> int:
    """Write one HTML page about a store: what is heard, how sure, and where labels may be wrong.

    The page needs nothing but itself: sound, pictures and diagrams are in it, and nothing is fetched. Mark labels right
    or wrong in it and download marks.csv: `softlabels manifest --apply marks.csv` corrects the manifest.
    Needs `pip install softlabels[report]`.

    examples:
      softlabels report                               soft_labels and data_manifest.csv -> report.html
      softlabels report --suspects suspects.csv       and all labels that are likely wrong, as a table
      softlabels report --limit 200                   with the first 200 of them to listen to, not 30
      softlabels report --classes my_classes.txt      and what the teacher has of a student's list
      softlabels report a --compare b -o ab.html      and what another store says of the same audio
    """
    store = open_store(args.store)
    options = filled(
        ReportOptions,
        args,
        manifest=args.manifest or (MANIFEST if Path(MANIFEST).is_file() else None),
        other=args.other and open_store(args.other),
    )
    with progress(len(store), "windows") as on_windows:
        done = report(store, args.output, options, on_windows=on_windows)
    counts = named(done, "annotated", "suspects", "shown", "duplicates", "bytes")
    also = {"suspects_csv": options.suspects} if options.suspects else {}
    print_results(args.json, **counts, written=args.output, **also)
    if options.manifest is None:
        tell(f"note: no {MANIFEST} here and no --manifest: the teacher is held against no labels")
    tell(f"next: open {args.output} in a browser")
    return 0


def add_export(commands: Any) -> None:
    command = add_command(commands, _export)
    described: Described = {
        "to": {"help": "the format"},
        "output": {"flags": "-o --output", "metavar": "OUT", "help": "a new file or folder"},
        "classes": {"metavar": "LIST", "help": "which classes, in which order; default the store's"},
        "mapping": {"metavar": "CSV", "help": "for names that are not found; see `softlabels classes`"},
        "threshold": {"metavar": "P", "help": f"detections: the least probability, default {THRESHOLD}"},
    }
    add_flags(command, export, described)


def _export(args: Namespace) -> int:
    """Write a store in another format, read shard by shard, complete or not at all.

    birdnet-stm32  a folder: the teacher cache that its training reads. Label with --overlap 1.75 for it:
                   its grid has 1.25 s. Recordings are known by file stem, so two with the same one are refused
    detections     a file .csv or .parquet: input, start_time, end_time, species_name, confidence, as birdnet writes it
    hf             a folder: a copy of the store with a dataset card, for Hugging Face's `datasets` and the Hub's viewer

    examples:
      softlabels export soft_labels --to birdnet-stm32 --classes my_classes.txt -o teacher_cache
      softlabels export soft_labels --to detections --threshold 0.25 -o detections.csv
      softlabels export soft_labels --to hf -o dataset
    """
    store = open_store(args.store)
    with progress(len(store), "windows") as on_windows:
        done = filled(export, args, store=store, on_windows=on_windows)
    counts = named(store.census, "labelled", "quarantined", "missing")
    print_results(args.json, {"notes": done.notes}, rows=done.rows, **counts, written=args.output)
    if store.census.missing:
        missing = f"{store.census.missing:,} windows are not labelled yet"
        tell(f"{missing}: `softlabels run`, then export again")
    for note in done.notes:
        tell(f"note: {note}")
    return 1 if store.census.missing else 0
