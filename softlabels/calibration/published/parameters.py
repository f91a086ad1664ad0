"""Tables of published calibrations: a CSV with a heading, the name of a class first, then two numbers.

columns        the calibrated probability
slope, shift   of the log-odds: 1 / (1 + exp(-(slope * log(p / (1 - p)) + shift)))
A, B           of the probability, as scikit-learn's sigmoid calibration writes it: 1 / (1 + exp(A * p + B))
"""

import math
from pathlib import Path

from softlabels.calibration.published.step import Of, PublishedMap
from softlabels.calibration.report import CalibrationReport
from softlabels.classes.class_list import ClassList
from softlabels.classes.matching import match_classes
from softlabels.errors import ClassListError
from softlabels.tables import open_table, raise_faults, some

_NUMBERS: dict[Of, tuple[str, str]] = {"log-odds": ("slope", "shift"), "probability": ("a", "b")}


def published_map(
    path: str | Path, classes: ClassList, mapping: str | Path | None = None
) -> tuple[PublishedMap, CalibrationReport]:
    """The step that a table says, and what was found.

    Args:
      classes: of the labels; a class is found among the table's names as a join finds it among a teacher's.
      mapping: a mapping file, student_class and teacher_class, for names that are not found so, such as eBird codes.
    Raises: ClassListError: no such table, numbers that are none, or not one class is in it.
    """
    of, rows = _read(path)
    match = match_classes(classes, ClassList(tuple(rows)), mapping=mapping, min_coverage=0)
    numbers = list(rows.values())
    columns = [c for c in range(len(classes)) if match.offsets[c + 1] == match.offsets[c] + 1]  # of one name each
    found = [numbers[match.teacher_classes[match.offsets[c]]] for c in columns]
    if not found:
        raise ClassListError(
            f"calibration '{path}': names none of the {len(classes)} classes of these labels, but {some(rows)}; "
            "give a mapping file whose teacher_class has the table's names"
        )
    left = [name for c, name in enumerate(classes) if c not in set(columns)]
    note = f"{len(columns)} of {len(classes)} classes have the published map of '{Path(path).name}'"
    note += f"; {len(left)} stay as they are: {some(left)}" if left else ""
    report = CalibrationReport(
        asked="published", used="published", examples=0, clips=0, recordings=0, positives=0, negatives=0, note=note
    )
    slopes, shifts = zip(*found, strict=True)
    return PublishedMap(of=of, columns=columns, slopes=slopes, shifts=shifts), report  # type: ignore[arg-type]


def _read(path: str | Path) -> tuple[Of, dict[str, tuple[float, float]]]:
    """What the slopes multiply; class -> slope and shift."""
    rows: dict[str, tuple[float, float]] = {}
    with open_table(path, "calibration", ClassListError) as table:
        lower = {name.lower(): name for name in table.columns[1:]}
        of = next((of for of, names in _NUMBERS.items() if all(name in lower for name in names)), None)
        if of is None:
            raise ClassListError(
                f"calibration '{path}': expected a heading with the name of a class, then slope and shift, or A and B, "
                f"got {', '.join(table.columns)[:200]!r}"
            )
        columns, sign = [lower[name] for name in _NUMBERS[of]], -1 if of == "probability" else 1
        for line, row in table:
            name = row[table.columns[0]]
            slope, shift = (sign * _number(row[column]) + 0.0 for column in columns)
            if not (math.isfinite(slope) and math.isfinite(shift)) or slope < 0:
                rising = "A of 0 or less and a B" if of == "probability" else "slope of 0 or more and a shift"
                table.faults.append(f"line {line}: {name!r}: expected a {rising}, got {[row[c] for c in columns]}")
            elif name in rows or not name:
                table.faults.append(f"line {line}: {name!r} is given again" if name else f"line {line}: no name")
            else:
                rows[name] = slope, shift
        raise_faults(f"calibration '{path}'", table.faults, ClassListError)
    return of, rows


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
