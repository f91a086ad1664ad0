"""report(): one HTML file that shows what a store holds, and where teacher and people disagree.

file                holds
survey.py           one pass over the store, which feeds all of these:
  confidence.py     how sure the teacher was of each window and class
  confusions.py     what else it scored high
  duplicates.py     the same audio under two names
  clip_evidence.py  the probabilities for and against the labels of each clip, for accuracy.py and suspects.py
teaching.py         what the annotated clips teach the teacher
listening.py        windows as sound and picture
cards.py            these, with what a person may answer; `pipeline.drafts.marks` applies it
figures.py          diagrams
page.py             all of it as one page, templates/
"""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pipeline.options import check_numbers, option
from softlabels.corpus.manifest import read_manifest
from softlabels.storage.unfinished import text_file
from softlabels.store.reader import StoreReader

if TYPE_CHECKING:  # they take a second to import
    from pipeline.report.clip_evidence import HumanLabels
    from softlabels.calibration.report import CalibrationReport
    from softlabels.classes.class_list import ClassList
    from softlabels.classes.matching import ClassMatch

MAX_BYTES = 15_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Reported:
    """What a report found: annotated clips looked at, suspects among their labels, how many of these the page shows;
    sets of clips with the same audio; the size of the page."""

    annotated: int
    suspects: int
    shown: int
    duplicates: int
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportOptions:
    """What a report shows besides the store; without a manifest it holds the teacher against no labels."""

    manifest: str | Path | None = option(None, "with the labels, default data_manifest.csv if there", metavar="CSV")
    classes: str | Path | None = option(None, "a student's class list, to show the coverage of", metavar="LIST")
    mapping: str | Path | None = option(None, "for names that are not found; see `softlabels classes`", metavar="CSV")
    other: StoreReader | None = option(None, "another store of the same audio", flags="--compare", metavar="STORE")
    root: str | Path | None = option(
        None, "where the audio is, default where your own run found it, else beside the manifest", metavar="DIR|URL"
    )
    other_labels: Literal["absent", "unknown"] = option(
        "unknown",
        "what a label of no class of the teacher's says of these: none of them is there, or nothing (default)",
    )
    suspects: str | Path | None = option(None, "write likely wrong labels, worst first", metavar="CSV")
    limit: int = option(30, "labels in doubt that the page shows, default 30: some 250 kB each", metavar="N")

    def __post_init__(self) -> None:
        check_numbers({"limit": self.limit})
        if self.suspects and not self.manifest:
            raise ValueError("--suspects: expected a manifest whose labels may be wrong, got none; add --manifest")
        if self.mapping and not self.classes:
            raise ValueError("--mapping: expected --classes beside it, got none")


def report(
    store: StoreReader,
    output: str | Path,
    options: ReportOptions | None = None,
    *,
    on_windows: Callable[[int], None] = lambda windows: None,
) -> Reported:
    """Write one self-contained HTML file about a store; an older one at `output` is replaced.

    Args:
      on_windows: called with the number of windows just read.
    Raises: ValueError: the extra `report` is not installed. StoreError: nothing labelled, or damaged. ManifestError,
      ClassListError: faulty inputs.
    """
    _require_extra()
    from pipeline.checking.compare import compare
    from pipeline.report.clip_evidence import HumanLabels
    from pipeline.report.listening import Listening
    from pipeline.report.page import render
    from pipeline.report.survey import survey
    from pipeline.report.suspects import find_suspects, write_suspects
    from softlabels.joins.build import audio_root

    options = options or ReportOptions()
    clips = None if options.manifest is None else read_manifest(options.manifest)
    student = _student(store, options)
    labels = HumanLabels.of(clips, store.index, store.classes, options.other_labels) if clips else None
    found = survey(store, labels if labels and labels.clips else None, on_windows)
    suspects = find_suspects(found.evidence, store.index, store.classes) if found.evidence else []
    root = audio_root(store, options.manifest, options.root)
    page = render(
        store,
        found,
        Listening(store, root, {clip.clip_id: clip.path for clip in clips or () if "://" not in clip.path}),
        manifest=options.manifest,
        labels=labels,
        suspects=suspects,
        limit=options.limit,
        taught=_what_is_taught(store, options, labels),
        student=student,
        comparison=compare(store, options.other) if options.other is not None else None,
    )
    with text_file(output) as file:
        file.write(page)
        file.flush()  # it has its room before the other file gets its name
        if options.suspects:
            write_suspects(suspects, options.suspects, root)
    return Reported(
        annotated=len(labels.clips) if labels else 0,
        suspects=len(suspects),
        shown=min(len(suspects), options.limit),
        duplicates=len(found.duplicates),
        bytes=len(page.encode(errors="backslashreplace")),
    )


def _student(store: StoreReader, options: ReportOptions) -> "tuple[ClassList, ClassMatch] | None":
    """A student's class list, and how it is found in the teacher's."""
    from softlabels.classes.class_list import ClassList
    from softlabels.classes.matching import match_classes

    if options.classes is None:
        return None
    classes = ClassList.from_file(options.classes)
    return classes, match_classes(classes, store.classes, mapping=options.mapping, min_coverage=0)


def _what_is_taught(
    store: StoreReader, options: ReportOptions, labels: "HumanLabels | None"
) -> "CalibrationReport | str | None":
    """See `what_is_taught`; None where nothing is annotated."""
    from pipeline.report.teaching import what_is_taught

    if options.manifest is None or not labels or not labels.clips:
        return None
    known = [store.classes[int(c)] for c in labels.classes]
    return what_is_taught(store, options.manifest, known, options.root, options.other_labels)


def _require_extra() -> None:
    lacking = [name for name in ("jinja2", "matplotlib") if importlib.util.find_spec(name) is None]
    if lacking:
        raise ValueError(f"the report needs {' and '.join(lacking)}: `pip install softlabels[report]`")
