"""Times of a Raven table over several files: of each file, or counted on over all of them; its rows have to show it."""

import itertools
from collections.abc import Callable, Sequence
from pathlib import PurePosixPath, PureWindowsPath

from softlabels.corpus.label_cell import read_seconds
from softlabels.corpus.name_lists import CellFault

BEGIN, END, OFFSET = "begin time (s)", "end time (s)", "file offset (s)"
SLACK_S = 0.01  # tables are rounded, and players pad
Row = dict[str, str]


def recording_of(row: Row) -> str:
    """The file that a row names, without its folder; "" if it names none."""
    return PureWindowsPath(row.get("begin file") or row.get("begin path") or "").name


def file_times(
    rows: Sequence[tuple[int, Row]],
    paths: Sequence[str],
    path_of: Callable[[str], str],
    duration_of: Callable[[str], float | None],
) -> list[tuple[float, float] | None]:
    """(start, end) of each row in seconds of its own file; None where it cannot be read, which its reader reports.

    With `File Offset (s)` that is clear, and with one file too. Of several files, rows whose times overlap count in
    each file; otherwise the lengths of the files have to leave one reading: within each file, or one after the other.

    Args:
      paths: all files of the manifest. path_of: the one that a recording is. duration_of: seconds of one, None unknown.
    Raises: CellFault: both readings are possible, or none.
    """
    times = [_times(row) for _, row in rows]
    spans: dict[str, tuple[float, float, float]] = {}  # recording without offsets -> first start, last start, last end
    for (_, row), time in zip(rows, times, strict=True):
        if time and recording_of(row) and not row.get(OFFSET, "").strip():
            first, last, end = spans.get(recording_of(row), (time[0], time[0], time[1]))
            spans[recording_of(row)] = min(first, time[0]), max(last, time[0]), max(end, time[1])
    ordered = sorted(spans, key=spans.__getitem__)
    if len(spans) < 2 or any(spans[b][0] <= spans[a][1] for a, b in itertools.pairwise(ordered)):
        return times
    found = {name: path_of(name) for name in ordered}
    durations = {name: duration_of(found[name]) for name in ordered}
    within = _within(spans, dict.fromkeys(ordered, 0.0), durations)
    starts = _starts([found[name] for name in ordered], paths, duration_of)
    one_after_other = bool(starts) and _within(spans, {name: starts[found[name]] for name in ordered}, durations)
    known = None not in durations.values()
    if within == one_after_other or not known:
        why = "could be either" if within or not known else "fit neither"
        raise CellFault(
            f"{len(ordered)} recordings without the column 'File Offset (s)': times of each file, or counted on from "
            f"one file to the next? They {why}; in Raven, show that column (View > Choose Measurements) and save the "
            "table again, or save one table a recording"
        )
    if within:
        return times
    counted = [{} if row.get(OFFSET, "").strip() else starts for _, row in rows]
    shifts = [of.get(found.get(recording_of(row), ""), 0.0) for of, (_, row) in zip(counted, rows, strict=True)]
    return [time and (time[0] - by, time[1] - by) for time, by in zip(times, shifts, strict=True)]


def _times(row: Row) -> tuple[float, float] | None:
    try:
        start_s, end_s = read_seconds(row[BEGIN]), read_seconds(row[END])
        if row.get(OFFSET, "").strip():
            offset_s = read_seconds(row[OFFSET])
            start_s, end_s = offset_s, offset_s + end_s - start_s
    except CellFault:
        return None
    return start_s, end_s


def _within(
    spans: dict[str, tuple[float, float, float]], starts: dict[str, float], durations: dict[str, float | None]
) -> bool:
    """Whether all boxes lie in their files, if these start so."""
    return all(
        span[0] >= starts[name] - SLACK_S and span[2] <= starts[name] + (durations[name] or 0) + SLACK_S
        for name, span in spans.items()
    )


def _starts(named: Sequence[str], paths: Sequence[str], duration_of: Callable[[str], float | None]) -> dict[str, float]:
    """path -> where it starts, of the folder's files from the first one named to the last; {} if nobody can tell."""
    folders = {PurePosixPath(path).parent for path in named}
    if len(folders) > 1 or list(named) != sorted(named):
        return {}
    starts, at = {}, 0.0
    for path in sorted({p for p in paths if PurePosixPath(p).parent in folders and named[0] <= p <= named[-1]}):
        duration_s = duration_of(path)
        if duration_s is None:
            return {}
        starts[path] = at
        at += duration_s
    return starts
