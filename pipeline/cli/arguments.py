"""The commands of the command line: their flags and help texts. What they do is in `commands.py`."""

import argparse
from pathlib import Path

from pipeline.checking.regenerate import regenerate
from pipeline.checking.verify import verify
from pipeline.cli.flags import Described, add_flags
from pipeline.drafts.manifest import ManifestSource
from pipeline.exports.export import THRESHOLD, export
from pipeline.planning.prepare import LabelOptions
from pipeline.report.report import ReportOptions
from pipeline.running.run import RunOptions
from pipeline.teachers.teacher import TeacherChoice
from softlabels.audio.decode import AudioBudget

MANIFEST, STORE, MAPPING = "data_manifest.csv", "soft_labels", "mapping.csv"
WHERE: Described = {  # what verify and regenerate have in common
    "root": {"metavar": "DIR|URL", "help": "where the audio is now, default where it was"},
    "model": {"metavar": "PATH", "help": "where the model is now, default where it was"},
    "jobs": {"metavar": "N", "help": "default one a core"},
}


def gigabytes(text: str) -> int:
    return round(float(text) * 1e9)


BUDGET: Described = {
    "max_hours": {"metavar": "H", "help": "default 25"},
    "max_bytes": {"flags": "--max-gigabytes", "type": gigabytes, "help": "default 16"},
    "max_channels": {"metavar": "N", "help": "default 16"},
    "min_rate_hz": {"metavar": "HZ", "help": "default 8000"},
    "max_rate_hz": {"metavar": "HZ", "help": "default 384000"},
}


def make_parser() -> argparse.ArgumentParser:
    """All commands with their flags; `args.name` is the command that was given."""
    parser = argparse.ArgumentParser(
        prog="softlabels",
        description="Run a teacher over an audio corpus once and keep its soft labels for training students.",
        epilog="Start with `softlabels run`; every command explains itself with --help. Exit codes: 0 done, "
        "1 problems found, 2 wrong usage, 3 stopped by the machine and resumable.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    adders = (_add_run, _add_manifest, _add_classes, _add_inspect, _add_report)
    for add in (*adders, _add_verify, _add_regenerate, _add_export, _add_compare):
        add(commands)
    return parser


def _add_command(commands, name: str, summary: str, epilog: str, *, store: bool = True) -> argparse.ArgumentParser:
    command = commands.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.",
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.set_defaults(name=name)
    if store:
        command.add_argument("store", nargs="?", default=STORE, help=f"default {STORE}")
    return command


def _add_run(commands) -> None:
    run = _add_command(
        commands,
        "run",
        "label every clip of a manifest; finished shards are left alone",
        epilog="""examples:
  softlabels run                                  data_manifest.csv -> soft_labels, BirdNET as the teacher
  softlabels run recordings/ -o labels            a folder with one folder a class
  softlabels run --dry-run                        shards, windows, bytes and time, without labelling
  softlabels run --teacher litert --model m.tflite --labels m.txt --rate 32000 \\
                 --activation sigmoid --outputs logits
  softlabels run --teacher my_module:my_teacher   a teacher of your own
  softlabels run --task $SLURM_ARRAY_TASK_ID/100  in a job array, `sbatch --array=0-99`
Interrupt it at any time: the same command goes on at the first missing shard.""",
        store=False,
    )
    run.add_argument("manifest", nargs="?", default=MANIFEST, metavar="MANIFEST|DIR", help=f"default {MANIFEST}")
    run.add_argument("-o", "--store", default=STORE, help=f"the store, a folder or s3://..., default {STORE}")
    add_flags(run.add_argument_group("teacher"), TeacherChoice)
    add_flags(run.add_argument_group("labels (fixed once the store is made)"), LabelOptions)
    job = run.add_argument_group("job")
    job.add_argument("--root", metavar="DIR|URL", help="what paths are relative to, default the manifest's folder")
    job.add_argument(
        "--allow-quarantined", default="0", metavar="N", help="exit 0 with up to N windows (or N%%) quarantined"
    )
    add_flags(job, RunOptions)
    job.add_argument("--finish", action="store_true", help="label nothing; close a store that such runs have labelled")
    job.add_argument("--dry-run", action="store_true", help="show the plan and what it will cost; label nothing")
    budget = run.add_argument_group("audio budget (a file that asks for more is quarantined)")
    add_flags(budget, AudioBudget, BUDGET)


def _add_manifest(commands) -> None:
    manifest = _add_command(
        commands,
        "manifest",
        "write a manifest of a folder of recordings, labelled by folder, metadata table or Raven tables",
        epilog="""Without --metadata and --raven the label of a clip is the name of its folder, kept as it is; folders
called noise, silence, background or other are annotated as none of the classes; files in DIR itself are not annotated.

--metadata reads a CSV such as BirdCLEF's: one row a recording, found below DIR by path, file name or stem. Columns:
  path       which recording               default filename, file-name
  label      its class, or A;B             default primary_label
  secondary  what may be in it too         default secondary_labels, also; neither present nor absent in training
  code       short names in `secondary`    default primary_label; they become that row's label
  split      train, test, ...              only if you name it
--raven labels each recording with all its table names, with none if the table is empty; recordings without a table
are not annotated. Give the same tables to the join, which lays the boxes over the windows.

examples:
  softlabels manifest recordings/ --sha256 --split train=0.8,test=0.2
  softlabels manifest train_audio/ --metadata train_metadata.csv
  softlabels manifest train_audio/ --metadata train_metadata.csv \\
                      --column "label={scientific_name}_{common_name}"
  softlabels manifest xc/ --metadata xc.csv --column "path=XC{id}" --column "label={gen} {sp}_{en}"
  softlabels manifest field/ --raven "tables/*.txt" --column label=Species
Exits 1 if rows of the metadata name files that are not there; they are left out.""",
        store=False,
    )
    manifest.add_argument("folder", type=Path, metavar="DIR", help="searched with all its subfolders")
    manifest.add_argument("-o", "--output", type=Path, default=Path(MANIFEST), help=f"default {MANIFEST}")
    source = manifest.add_mutually_exclusive_group()
    add_flags(source, ManifestSource)
    manifest.add_argument(
        "--column", action="append", default=[], metavar="NAME=COLUMN", help="which column to read; may be given again"
    )
    manifest.add_argument("--split", metavar="NAME=SHARE,...", help="by recording, each class in proportion")
    manifest.add_argument("--seed", type=int, default=0, metavar="N", help="of the split, default 0")
    manifest.add_argument("--sha256", action="store_true", help="digest every file, so that a changed one is noticed")
    manifest.add_argument("--jobs", type=int, default=-1, metavar="N", help="of --sha256, default one a core")


def _add_classes(commands) -> None:
    classes = _add_command(
        commands,
        "classes",
        "find your class list in the teacher's, and draft a mapping file for the rest",
        epilog="""A join finds a class by exact name, else by scientific name, else by a common name that only one
class has. The draft has these, and guesses for the rest, marked `look`: underscores for spaces, eBird's codes (norcar),
a genus that moved. Edit it in any spreadsheet, saved as UTF-8 CSV:
  one row a pair        student_class,teacher_class; other columns are ignored
  several rows a class  its label is the sum (softmax) or maximum (sigmoid) of several teacher classes
  empty teacher_class   the teacher lacks this class: its soft label is NaN, never 0
Then store.join(manifest, classes=LIST, mapping="mapping.csv"). Exits 0 if every class was found surely, 1 if some
rows need a look.

examples:
  softlabels classes my_classes.txt                         against soft_labels, or BirdNET where there is no store
  softlabels classes my_classes.txt --against birdnet -o to_birdnet.csv
  softlabels classes my_classes.txt --against teacher_classes.txt""",
        store=False,
    )
    classes.add_argument("classes", metavar="LIST", help="your class names, a UTF-8 text file, one a line")
    classes.add_argument(
        "--against",
        metavar="STORE|FILE|birdnet",
        help=f"the teacher's classes: of a store, of a text file, or BirdNET's; default {STORE}, else birdnet",
    )
    classes.add_argument(
        "-o", "--output", type=Path, default=Path(MAPPING), help=f"the draft, never overwritten; default {MAPPING}"
    )


def _add_inspect(commands) -> None:
    inspect = _add_command(commands, "inspect", "say what a store holds, and what is missing or quarantined", "")
    inspect.add_argument("--json", action="store_true", help="as one JSON object")
    inspect.add_argument("--quarantine", action="store_true", help="list the quarantined windows, tab-separated")


def _add_report(commands) -> None:
    report = _add_command(
        commands,
        "report",
        "write one HTML page about a store: what is heard, how sure, and where labels may be wrong",
        epilog="""The page needs nothing but itself: sound, pictures and diagrams are in it, and nothing is fetched.
Needs `pip install softlabels[report]`.

examples:
  softlabels report                               soft_labels and data_manifest.csv -> report.html
  softlabels report --suspects suspects.csv       and all labels that are likely wrong, as a table
  softlabels report --classes my_classes.txt      and what the teacher has of a student's list
  softlabels report a --compare b -o ab.html      and what another store says of the same audio""",
    )
    report.add_argument("-o", "--output", type=Path, default=Path("report.html"), help="default report.html, replaced")
    add_flags(report, ReportOptions)


def _add_verify(commands) -> None:
    verify_ = _add_command(
        commands,
        "verify",
        "read every byte of a store and hold it against receipts and plan; change nothing",
        epilog="--recompute 0.01 lets the teacher score 1 % of the windows again, drawn with a fixed seed;\n"
        "--shard 17 --recompute 1 a whole shard. Exits 1 on any difference, with the command that repairs it.",
    )
    described: Described = {
        "shards": {"flags": "--shard", "metavar": "N", "help": "only this one; may be given again"},
        "recompute": {"metavar": "FRACTION", "help": "windows to score again, 0 to 1"},
        **WHERE,
    }
    add_flags(verify_, verify, described)
    verify_.add_argument("--json", action="store_true", help="as one JSON object")


def _add_regenerate(commands) -> None:
    regenerate_ = _add_command(
        commands,
        "regenerate",
        "make shards again from the store's own plan and compare; restore what is damaged",
        epilog="identical   the same bytes; a damaged or deleted file is intact again\n"
        "equivalent  within rounding, as from another CPU class: the stored shard stays\n"
        "different   exit 1, and what differs: audio, packages, numerics class",
    )
    described: Described = {
        "shards": {"flags": "--shard", "metavar": "N", "help": "may be given again"},
        "accept_equivalent": {"help": "let equivalent bytes become the shard, on record"},
        **WHERE,
    }
    add_flags(regenerate_, regenerate, described)


def _add_export(commands) -> None:
    export_ = _add_command(
        commands,
        "export",
        "write a store in another format, read shard by shard, complete or not at all",
        epilog="""birdnet-stm32  a folder: the teacher cache that its training reads. Label with --overlap 1.75 for it:
               its grid has 1.25 s. Recordings are known by file stem, so two with the same one are refused
detections     a file .csv or .parquet: input, start_time, end_time, species_name, confidence, as birdnet writes it
hf             a folder: a copy of the store with a dataset card, for Hugging Face's `datasets` and the Hub's viewer

examples:
  softlabels export soft_labels --to birdnet-stm32 --classes my_classes.txt -o teacher_cache
  softlabels export soft_labels --to detections --threshold 0.25 -o detections.csv
  softlabels export soft_labels --to hf -o dataset""",
    )
    described = {
        "to": {"help": "the format"},
        "output": {"flags": "-o --output", "metavar": "OUT", "help": "a new file or folder"},
        "classes": {"metavar": "LIST", "help": "which classes, in which order; default the store's"},
        "mapping": {"metavar": "CSV", "help": "for names that are not found; see `softlabels classes`"},
        "threshold": {"metavar": "P", "help": f"detections: the least probability, default {THRESHOLD}"},
    }
    add_flags(export_, export, described)


def _add_compare(commands) -> None:
    compare = _add_command(
        commands,
        "compare",
        "hold two stores of the same audio against each other: two teachers, or two settings",
        epilog="""Clips meet by clip_id and audio digest, windows by time (nearest centres that share half a window),
classes by name. same_top_class is the share of windows in which both give one class the highest probability;
heard_by counts windows x classes at 0.5 or more; kl is in nats, from A to B; correlation is of log-odds, so that
calibration alone does not lower it. The classes and windows that differ most come last, tab-separated; --json has
all classes.""",
        store=False,
    )
    compare.add_argument("a", metavar="A", help="a store")
    compare.add_argument("b", metavar="B", help="another one")
    compare.add_argument("--json", action="store_true", help="as one JSON object")
