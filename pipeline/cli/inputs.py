"""What is made before a run: `softlabels manifest` and `softlabels classes`."""

import os
import shlex
from argparse import Namespace
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.cli.corrections import apply
from pipeline.cli.growing import new_manifest, updated_manifest
from pipeline.drafts.class_mapping import DraftRow, draft_mapping, write_draft
from pipeline.drafts.folder import root_of
from pipeline.drafts.manifest import ManifestSource, parse_columns
from pipeline.teachers.birdnet import find_birdnet
from pipeline.teachers.description import read_labels
from pipeline.terminal.flags import MANIFEST, STORE, add_command, add_flags, filled
from pipeline.terminal.printing import named, print_results, tell
from softlabels.classes.class_list import ClassList
from softlabels.classes.matching import match_classes
from softlabels.classes.taxonomy import Taxonomy
from softlabels.errors import ClassListError, ManifestError
from softlabels.soft_label_store import open as open_store

MAPPING = "mapping.csv"


def add_manifest(commands: Any) -> None:
    command = add_command(commands, _manifest, store=False)
    command.add_argument(
        "folder",
        type=Path,
        nargs="?",
        metavar="DIR",
        help=f"searched with all its subfolders; with --apply the manifest to correct, default {MANIFEST}",
    )
    command.add_argument("-o", "--output", type=Path, default=Path(MANIFEST), help=f"default {MANIFEST}")
    source = command.add_mutually_exclusive_group()
    add_flags(source, ManifestSource)
    command.add_argument("--apply", type=Path, metavar="CSV", help="correct a manifest by the marks of a report's page")
    command.add_argument(
        "--column", action="append", default=[], metavar="NAME=COLUMN", help="which column to read; may be given again"
    )
    command.add_argument("--split", metavar="NAME=SHARE,...", help="by recording or group, each class in proportion")
    command.add_argument(
        "--group", metavar="COLUMN|N", help="what stays in one split: a column, or the folders at level N below DIR"
    )
    command.add_argument("--update", action="store_true", help="add new files to a manifest, and drop vanished ones")
    command.add_argument("--dry-run", action="store_true", help="show what would be written; write nothing")
    command.add_argument("--seed", type=int, default=0, metavar="N", help="of the split, default 0")
    command.add_argument("--sha256", action="store_true", help="digest every file, so that a changed one is noticed")
    command.add_argument("--jobs", type=int, default=-1, metavar="N", help="of --sha256, default one a core")


def _manifest(args: Namespace) -> int:
    """Write a manifest of a folder of recordings, labelled by folder, metadata table or Raven tables.

    Without --metadata and --raven the label of a clip is the name of its folder, kept as it is; folders called noise,
    silence, background or other are annotated as none of the classes, unless the class list of a join has that name;
    as in BirdNET-Analyzer, A_a,B_b has both classes and -A_a lacks that one; files in DIR itself are not annotated.

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
      softlabels manifest recordings/ --group 1 --split train=0.8,test=0.2      the first folder is a site or speaker
      softlabels manifest recordings/ --update

    --update adds files that the manifest lacks, with its splits and groups, and drops rows whose file is gone from DIR.
    All other rows stay as they are, byte by byte: labels, splits, stretches, digests, columns of your own.
    Exits 1 if rows of the metadata name files that are not there, or files have names that no manifest can hold; they
    are left out.

    --apply corrects a manifest: in the page of `softlabels report` labels are marked right or wrong, and downloaded as
    marks.csv. A label that is wrong becomes -Name (absent; nothing is known of the others), or what is there instead;
    `noise` that is wrong becomes empty. Every other byte stays, and a second time changes nothing. Exits 1 if marks are
    left alone: of clips that are gone, or whose label was changed since the report.
      softlabels manifest data_manifest.csv --apply marks.csv
    """
    if args.apply:
        return apply(args)
    if args.folder is None:
        raise ValueError("expected DIR, the folder with the recordings, got none")
    source = filled(ManifestSource, args, root=root_of(args.folder, args.output), columns=parse_columns(args.column))
    if args.output.exists() and not args.update:
        name = "" if args.output == Path(MANIFEST) else f" -o {shlex.quote(str(args.output))}"
        raise ManifestError(
            f"'{args.output}' is there already: `softlabels manifest {shlex.quote(str(args.folder))}{name} --update` "
            "adds new files to it, drops vanished ones and leaves what you corrected alone; -o names another file"
        )
    found = updated_manifest(args, source) if args.output.exists() else new_manifest(args, source)
    advice = ["next: the same without --dry-run"] if args.dry_run else _manifest_advice(args.output, source)
    for line in (*found.remarks, *found.problems, *advice):
        tell(line)
    return 1 if found.problems else 0


def _manifest_advice(manifest: Path, source: ManifestSource) -> Iterator[str]:
    """What to type next."""
    beside = os.path.realpath(source.root) == os.path.dirname(os.path.realpath(manifest))
    flags = "" if beside else f" --root {shlex.quote(str(source.root))}"
    name = "" if manifest == Path(MANIFEST) else f" {shlex.quote(str(manifest))}"
    yield f"next: softlabels run{name}{flags}"
    if source.raven:
        label = source.columns.get("label")
        column = f", annotation_column={label!r}" if label else ""
        join = f"store.join({str(manifest)!r}, annotations={source.raven!r}, annotated_extents='clips'{column})"
        yield f"then, in Python: {join}"


def add_classes(commands: Any) -> None:
    command = add_command(commands, _classes, store=False)
    command.add_argument("classes", metavar="LIST", help="your class names, one a line, or a table")
    command.add_argument("--column", metavar="NAME", help="of a table as LIST, where its header fits several or none")
    command.add_argument(
        "--against",
        metavar="STORE|FILE|birdnet",
        help=f"the teacher's classes: of a store, of a text file, or BirdNET's; default {STORE}, else birdnet",
    )
    command.add_argument(
        "--taxonomy",
        action="append",
        default=[],
        metavar="FILE",
        help="names over the years: eBird's CSV, or the JSON of perch-hoplite or avex; may be given again",
    )
    command.add_argument(
        "-o", "--output", type=Path, default=Path(MAPPING), help=f"the draft, never overwritten; default {MAPPING}"
    )


def _classes(args: Namespace) -> int:
    """Find your class list in the teacher's, and draft a mapping file for the rest.

    A join finds a class by exact name, else by scientific name, else by a common name that only one class has. The
    draft has these, and guesses for the rest, marked `look`: underscores for spaces, eBird's codes (norcar), a genus
    that moved. With --taxonomy, tables say which names are one species, and nothing is guessed of a genus: such a class
    is marked `taxonomy`, with both names and their years. Edit it in any spreadsheet, saved as UTF-8 CSV:
      one row a pair        student_class,teacher_class; other columns are ignored
      several rows a class  its label is the sum (softmax) or maximum (sigmoid) of several teacher classes
      empty teacher_class   the teacher lacks this class: its soft label is NaN, never 0
    Then store.join(manifest, classes=LIST, mapping="mapping.csv"). Exits 0 if every class was found surely, 1 if some
    rows need a look.

    examples:
      softlabels classes my_classes.txt                         against soft_labels, or BirdNET where there is no store
      softlabels classes my_classes.txt --against birdnet -o to_birdnet.csv
      softlabels classes my_classes.txt --against teacher_classes.txt
      softlabels classes my_classes.txt --taxonomy eBird_taxonomy_v2025.csv
    """
    student, (source, teacher) = ClassList.from_file(args.classes, args.column or ""), _teacher_classes(args.against)
    rows = draft_mapping(student, teacher, Taxonomy(args.taxonomy) if args.taxonomy else None)
    write_draft(rows, args.output)
    how, looks = Counter(row.how for row in rows), [row for row in rows if row.look]
    found = {name.replace(" ", "_"): how.pop(name, 0) for name in ("exact", "scientific name", "common name")}
    lacking, bridged = how.pop("", 0), {"bridged": how.pop("taxonomy", 0)} if args.taxonomy else {}
    fields = ("student_class", "teacher_class", "how", *(["names"] if args.taxonomy else []))
    print_results(
        args.json,
        {"look": [named(row, *fields) for row in looks]},
        classes=len(rows),
        against=source,
        teacher_classes=len(teacher),
        **found,
        **bridged,
        guessed=how.total(),
        guessed_by={name.replace(" ", "_"): count for name, count in how.items()},
        not_found=lacking,
        to_look_at=len(looks),
        written=args.output,
    )
    for line in _class_advice(args, looks, student, teacher):
        tell(line)
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


def _class_advice(args: Namespace, looks: list[DraftRow], student: ClassList, teacher: ClassList) -> Iterator[str]:
    """What is odd about the list, the first ten rows to look at, and what to type next."""
    try:
        yield from match_classes(student, teacher, min_coverage=0).notes
    except ClassListError as e:  # two classes are one for the teacher: the draft's reader has to choose
        yield str(e)
    for row in looks[:10]:
        guess = f"{row.teacher_class!r} by {row.found_by}?" if row.teacher_class else "not found"
        yield f"look: {row.student_class!r}: {guess}"
    if len(looks) > 10:
        yield f"look: ... and {len(looks) - 10} more"
    join = f"store.join({MANIFEST!r}, classes={args.classes!r}"
    if looks:
        yield f"next: correct the {len(looks)} rows of {args.output} that say look, then, in Python:"
        yield f"  {join}, mapping={str(args.output)!r})"
    else:
        yield f"next, in Python: {join}); {args.output} is needed only where you change it"
