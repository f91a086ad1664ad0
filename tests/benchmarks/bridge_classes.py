"""Bridge BirdNET's class list to another by tables of names over the years.

    python tests/benchmarks/bridge_classes.py TEACHER_LIST TABLE...

Tries every table by itself and all together. Prints what `softlabels classes --taxonomy` finds, and compares: a class
that two of them bridge to different classes is wrong in one. Exits 1 if one is, or if more than 60 are found by none.
TEACHER_LIST is Perch v2's, one name a line; TABLE is eBird's CSV, or the JSON of perch-hoplite or avex.
"""

import argparse
import json
import sys
import time
from pathlib import Path

from pipeline.drafts.class_mapping import draft_mapping
from pipeline.teachers.birdnet import find_birdnet
from softlabels import ClassList
from softlabels.classes.taxonomy import Taxonomy

MOST_UNMATCHED = 60


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("classes", type=Path, metavar="TEACHER_LIST")
    parser.add_argument("tables", type=Path, nargs="+", metavar="TABLE")
    args = parser.parse_args()
    student, teacher = ClassList.from_file(find_birdnet()[1]), ClassList.from_file(args.classes)
    bridged: dict[str, set[str]] = {}
    unmatched = 0
    for tables in ([], *([table] for table in args.tables), args.tables):
        began = time.perf_counter()
        rows = draft_mapping(student, teacher, Taxonomy(tables) if tables else None)
        unmatched = sum(not row.teacher_class for row in rows)
        by_table = [row for row in rows if row.how == "taxonomy"]
        guessed = sum(row.how in ("epithet", "spelling", "code") or row.how.endswith("words") for row in rows)
        names = " + ".join(table.name for table in tables) or "no table"
        print(
            f"{names}: {unmatched} not found, {len(by_table)} bridged, {guessed} guessed, "
            f"{time.perf_counter() - began:.1f} s"
        )
        for row in by_table:
            bridged.setdefault(row.student_class, set()).add(row.teacher_class)
    contradicted = {name: sorted(found) for name, found in bridged.items() if len(found) > 1}
    good = not contradicted and unmatched <= MOST_UNMATCHED
    print(json.dumps({"good": good, "not_found_by_all": unmatched, "contradicted": contradicted}))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
