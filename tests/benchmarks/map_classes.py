"""Map a class list onto BirdNET's, then the same list shuffled, renamed, translated and torn.

    python tests/benchmarks/map_classes.py LIST

Prints what the join says of each list and what `softlabels classes` drafts for it, and checks that every class
that is found is the right one. Exits 1 if the list itself is not found in full, if any class is found as another
one, or if a changed list is not reported as what it is. LIST has names with both halves.
"""

import argparse
import json
import random
import sys
import time
from collections import Counter
from itertools import pairwise
from pathlib import Path

from pipeline.drafts.class_mapping import draft_mapping
from pipeline.teachers.birdnet import find_birdnet
from softlabels import ClassList, SoftLabelsError
from softlabels.classes.matching import match_classes

REPORTED_AS = {
    "shuffled": "another order",
    "underscores for spaces": "underscores for spaces",
    "translated": "renamed or translated",
    "another genus": "a genus that moved",
    "another genus, translated": "the teacher has only",
    "common halves shifted by one": "halves mixed up",
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("classes", type=Path, metavar="LIST")
    student = ClassList.from_file(parser.parse_args().classes)
    teacher = ClassList.from_file(find_birdnet()[1])
    truth = [part[0] if part else None for part in made_of(match_classes(student, teacher), teacher)]
    figures = {}
    for change, order, names in changed_lists(student):
        figures[change] = report(change, ClassList(tuple(names)), teacher, [truth[i] for i in order])
    good = (
        figures["as given"]["joined"] == len(student)
        and not any(figure["wrong"] for figure in figures.values())
        and all(figure["reported"] for figure in figures.values())
    )
    print(json.dumps({"good": good, "classes": len(student), **figures}))
    return 0 if good else 1


def made_of(match, teacher: ClassList) -> list[list[str]]:
    """The teacher's names for each student class."""
    starts = match.offsets.tolist()
    return [[teacher[i] for i in match.teacher_classes[a:b].tolist()] for a, b in pairwise(starts)]


def changed_lists(student: ClassList):
    """(what was done, which class of the list each name is, the names)."""
    same = list(range(len(student)))
    shuffled = random.Random(0).sample(same, len(same))
    halves = [(scientific, common) for scientific, _, common in (name.partition("_") for name in student)]
    yield "as given", same, list(student)
    yield "shuffled", shuffled, [student[i] for i in shuffled]
    yield "underscores for spaces", same, [name.replace(" ", "_") for name in student]
    yield "translated", same, [f"{scientific}_{common[::-1]}" for scientific, common in halves]
    yield "another genus", same, [f"Genus {scientific.split()[-1]}_{common}" for scientific, common in halves]
    yield "another genus, translated", same, [f"Genus {scientific.split()[-1]}_{c[::-1]}" for scientific, c in halves]
    yield "common halves shifted by one", same, [f"{halves[i][0]}_{halves[i - 1][1]}" for i in same]


def report(change: str, student: ClassList, teacher: ClassList, truth: list[str | None]) -> dict[str, object]:
    """Print what the join and the draft say of a list; count what was found, and what as the wrong class."""
    print(f"{change}, such as {student[0]!r}")
    joined = wrong = 0
    began = time.perf_counter()
    try:
        match = match_classes(student, teacher)
        found = made_of(match, teacher)
        joined, said = len(student) - len(match.unmatched), list(match.notes)
        wrong += sum(bool(part) and part != [right] for part, right in zip(found, truth, strict=True))
        print(f"  join   {joined} of {len(student)} {dict(Counter(match.how))} in {time.perf_counter() - began:.3f} s")
    except SoftLabelsError as e:
        said = [f"{type(e).__name__}: {e}"]
    for sentence in said:
        print(f"         {sentence}")
    rows = draft_mapping(student, teacher)
    drafted = [row for row in rows if row.teacher_class]
    misses = sum(row.teacher_class not in ("", right) for row, right in zip(rows, truth, strict=True))
    looks = sum(row.look for row in rows)
    print(f"  draft  {len(drafted)} of {len(student)}, {looks} to look at, {misses} of them wrong")
    return {
        "joined": joined,
        "wrong": wrong,
        "drafted": len(drafted),
        "looks": looks,
        "reported": REPORTED_AS.get(change, "") in " ".join(said),
    }


if __name__ == "__main__":
    sys.exit(main())
