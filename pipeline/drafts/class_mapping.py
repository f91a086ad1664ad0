"""A draft of a class mapping file: what the join finds by itself, and guesses for a person to look at.

The guesses are those of `ClassGuesser`, each only where no other class claims the same. With a taxonomy, what that says
comes first, and nothing is guessed of a genus that moved: the table knows it.
"""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from softlabels.classes.class_list import ClassList
from softlabels.classes.finder import ClassFinder
from softlabels.classes.guesser import ClassGuesser
from softlabels.classes.matching import COLUMNS
from softlabels.classes.taxonomy import Taxonomy
from softlabels.errors import ClassListError
from softlabels.storage.unfinished import text_file
from softlabels.tables import write_rows


@dataclass(frozen=True, slots=True, kw_only=True)
class DraftRow:
    """One student class: its teacher class ("" where nothing fits), how that was found, whether to look at it.

    names: of a bridged class, the names that the taxonomy has, each with its year.
    """

    student_class: str
    teacher_class: str
    how: str
    look: bool
    names: str = ""

    @property
    def found_by(self) -> str:
        """How, and of a bridged class by which names."""
        return f"{self.how}: {self.names}" if self.names else self.how


def draft_mapping(student: ClassList, teacher: ClassList, taxonomy: Taxonomy | None = None) -> list[DraftRow]:
    """One row a student class, in the order of the student's list.

    Args:
      taxonomy: names over the years; what is found by it has `how` "taxonomy".

    To look at: every guess, every class found by the taxonomy or not at all, two classes with the same match, and a
    name that was found by its common half alone.
    """
    finder, guesser = ClassFinder(teacher), ClassGuesser(teacher)
    found = [finder.find(name) for name in student]
    taken = Counter(hit[0] for hit in found if hit)
    bridges = {} if taxonomy is None else taxonomy.bridges(student, teacher)
    bridges = {c: bridge for c, bridge in bridges.items() if not found[c] and bridge.teacher_class not in taken}
    taken.update(bridge.teacher_class for bridge in bridges.values())
    guesses = [
        None if hit or c in bridges else guesser.guess(name)
        for c, (name, hit) in enumerate(zip(student, found, strict=True))
    ]
    guessed = Counter(guess[0] for guess in guesses if guess)
    rows = []
    for c, (name, hit, guess) in enumerate(zip(student, found, guesses, strict=True)):
        known = taxonomy is not None and guess is not None and guess[1] == "epithet"
        if hit:
            position, how = hit
            by_half = how == "common name" and "_" in name  # a genus that moved, underscores: likely, not sure
            look = by_half or taken[position] > 1
            rows.append(DraftRow(student_class=name, teacher_class=teacher[position], how=how, look=look))
        elif c in bridges:
            theirs, names = teacher[bridges[c].teacher_class], str(bridges[c])
            rows.append(DraftRow(student_class=name, teacher_class=theirs, how="taxonomy", look=True, names=names))
        elif guess and not known and guess[0] not in taken and guessed[guess[0]] == 1:
            rows.append(DraftRow(student_class=name, teacher_class=teacher[guess[0]], how=guess[1], look=True))
        else:
            rows.append(DraftRow(student_class=name, teacher_class="", how="", look=True))
    return rows


def write_draft(rows: list[DraftRow], path: str | Path) -> None:
    """Write a mapping file. Raises: ClassListError: it is there already; nobody's edits are overwritten."""
    try:
        lines = ([r.student_class, r.teacher_class, r.found_by, "look" if r.look else ""] for r in rows)
        with text_file(path, replace=False) as file:
            write_rows(file, [*COLUMNS, "how", "look"], lines)
    except FileExistsError as e:
        raise ClassListError(
            f"'{path}' is there already, and may have your corrections: name another file with -o"
        ) from e
