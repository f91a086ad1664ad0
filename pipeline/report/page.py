"""The page: findings as plain values, and the template that lays them out."""

import datetime
import importlib.metadata
import shlex
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup

from pipeline.checking.compare import Comparison
from pipeline.drafts.marks import COLUMNS
from pipeline.report import figures
from pipeline.report.accuracy import measure_accuracy
from pipeline.report.cards import chance, halves, other_names, suspect_cards, window_card
from pipeline.report.clip_evidence import ClipEvidence, HumanLabels
from pipeline.report.confidence import Confidence
from pipeline.report.listening import Listening, spectrogram_colours
from pipeline.report.survey import Survey
from pipeline.report.suspects import Suspect, heard_by_people
from softlabels.calibration.report import CalibrationReport
from softlabels.classes.class_list import ClassList
from softlabels.classes.matching import ClassMatch
from softlabels.digests import sha256_if_there, sha256_of
from softlabels.records.quarantine import REASONS
from softlabels.storage.location import absolute, location
from softlabels.store.reader import StoreReader
from softlabels.texts import printable

HEARD_CARDS, HEARD_ROWS, CLASS_ROWS, DUPLICATE_ROWS, LACKING_NAMES, UNKNOWN_NAMES = 12, 50, 200, 30, 100, 20
COMPARED_CLASSES = 15


def render(
    store: StoreReader,
    survey: Survey,
    listening: Listening,
    *,
    manifest: str | Path | None,
    labels: HumanLabels | None,
    suspects: Sequence[Suspect],
    limit: int,
    taught: CalibrationReport | str | None,
    student: tuple[ClassList, ClassMatch] | None,
    comparison: Comparison | None,
) -> str:
    """The page as text; every byte it needs is in it.

    Args:
      manifest: as the user named it. limit: of the suspects that are shown.
      labels, taught: None without a manifest; taught: a text where nothing could be measured.
      student: its list, and how it is found in the teacher's.
    """
    matrix = survey.confusions
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            taught=taught,
            **_contents(store),
            **_title(store, manifest),
            **_confidence(store, survey.confidence, listening),
            **_judgement(store, labels, survey.evidence, suspects[:limit], listening),
            suspect_count=len(suspects),
            checked_count=len(heard_by_people(labels.clips)) if labels else 0,
            labels=labels,
            unknown=list(labels.unknown.items())[:UNKNOWN_NAMES] if labels else (),
            coverage=_coverage(store, survey.confidence, *student) if student else None,
            confusions=Markup(figures.heat_map(matrix, list(store.classes))) if matrix else None,
            comparison=_comparison(comparison) if comparison else None,
            duplicates=survey.duplicates[:DUPLICATE_ROWS],
            duplicate_count=len(survey.duplicates),
            spectrogram_colours=spectrogram_colours(),
            version=importlib.metadata.version("softlabels"),
        )
    )


def _environment() -> jinja2.Environment:
    """What lays the page out. Names are a stranger's: they are text, and shown as `printable` shows them."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("pipeline.report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
        finalize=lambda value: printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value,
    )
    environment.filters["common"] = lambda name: halves(name)[0]
    environment.filters["scientific"] = lambda name: halves(name)[1]
    environment.filters |= {"percent": _percent, "chance": chance}
    return environment


def _title(store: StoreReader, manifest: str | Path | None) -> dict[str, Any]:
    """What the page is of, and since when; what to type once labels are marked."""
    now = datetime.datetime.now().astimezone()
    return {
        "store_name": PurePosixPath(absolute(location(str(store.storage)))).name,
        "manifest_name": Path(manifest).name if manifest else "",
        "made": now.strftime("%Y-%m-%d %H:%M %Z"),
        "made_on": now.strftime("%Y-%m-%d"),
        "apply": f"softlabels manifest {shlex.quote(str(manifest))} --apply marks.csv",
        "marks_header": ",".join(COLUMNS),
        "page_id": sha256_of([store.spec.fingerprint(), sha256_if_there(manifest) if manifest else None]),
    }


def _contents(store: StoreReader) -> dict[str, Any]:
    """What was labelled, by what, and what was not."""
    census, spec, window = store.census, store.spec, store.spec.window
    rate, frames = (census.clips[name].to_numpy() for name in ("rate_hz", "end"))
    seconds = (frames - census.clips["start"].to_numpy()) / np.maximum(rate, 1)
    reasons: Counter[str] = Counter()
    for entry in census.quarantine:
        reasons[entry.reason] += entry.windows
    settings = {
        "teacher": f"{spec.teacher}, sha256 {spec.teacher_digest[:12]}…",
        "classes": f"{len(store.classes):,}, {spec.activation}",
        "window": f"{window.window_s:g} s every {window.hop_s:g} s, at {window.rate_hz:,} Hz",
        "jitters": f"{spec.jitters}",
        "layout": spec.layout if spec.layout == "dense" else f"sparse, from {spec.min_probability:g}",
        "fingerprint": store.spec.fingerprint(),
    }
    tiles = {
        "clips": f"{len(census.clips):,}",
        "hours of audio": f"{seconds.sum() / 3600:,.2f}",
        "windows labelled": f"{census.labelled:,}",
        "quarantined": f"{census.quarantined:,}",
        "still missing": f"{census.missing:,}",
    }
    quarantine = [(reason, reasons[reason], REASONS.get(reason, "")) for reason in sorted(reasons)]
    return {"teacher": spec.teacher, "tiles": tiles, "settings": settings, "quarantine": quarantine}


def _confidence(store: StoreReader, sure: Confidence, listening: Listening) -> dict[str, Any]:
    """How sure the teacher was, and what it heard most, with a window to listen to."""
    top = sure.top[~np.isnan(sure.top)]
    often = [int(c) for c in np.lexsort((-sure.best, -sure.heard))[:HEARD_ROWS] if sure.best[c] >= 0.1]
    heard: list[dict[str, Any]] = []
    for c in often:
        windows, best = int(sure.heard[c]), float(sure.best[c])
        heard.append({"name": store.classes[c], "best": best, "windows": windows, "share": windows / len(top)})
    cards = [
        window_card(store, listening, int(sure.best_window[c])) | each
        for c, each in zip(often[:HEARD_CARDS], heard, strict=False)
    ]
    return {
        "heard": heard,
        "heard_cards": cards,
        "classes_heard": int((sure.heard > 0).sum()),
        "sure_share": float((top >= 0.5).mean()),
        "median_top": float(np.median(top)),
        "top_figure": Markup(figures.histogram("top", sure.top, "highest probability of a window", limits=(0, 1))),
        "entropy_figure": Markup(figures.histogram("entropy", sure.entropy, "entropy of a window, nats")),
    }


def _judgement(
    store: StoreReader,
    labels: HumanLabels | None,
    evidence: ClipEvidence | None,
    suspects: Sequence[Suspect],
    listening: Listening,
) -> dict[str, Any]:
    """The teacher against the labels; `accuracy` is None where there are none."""
    accuracy = measure_accuracy(evidence, store.classes) if evidence else None
    cards = suspect_cards(store, listening, labels, suspects) if labels and suspects else []
    species = {name for card in cards for name in card["species"]}
    return {
        "accuracy": accuracy,
        "class_rows": accuracy.classes[:CLASS_ROWS] if accuracy else (),
        "reliability_figure": Markup(figures.reliability_diagram(accuracy.bins)) if accuracy else "",
        "suspect_cards": cards,
        "suspect_species": sorted(species, key=lambda name: (halves(name)[0], name)),
        "other_names": other_names(labels.names) if labels else [],
    }


def _coverage(store: StoreReader, sure: Confidence, student: ClassList, match: ClassMatch) -> dict[str, Any]:
    """How a student's list is found in the teacher's, and in how many windows each class is heard."""
    rows = []
    for c, name in enumerate(student):
        made_of = match.teacher_classes[match.offsets[c] : match.offsets[c + 1]]
        names, windows = [store.classes[int(i)] for i in made_of], int(sure.heard[made_of].max(initial=0))
        rows.append({"name": name, "how": match.how[c] or "not found", "made_of": names, "windows": windows})
    return {
        "rows": rows,
        "found": len(student) - len(match.unmatched),
        "lacking": match.unmatched[:LACKING_NAMES],
        "notes": match.notes,
    }


def _comparison(c: Comparison) -> dict[str, Any]:
    fields = {
        "this store": c.a,
        "the other": c.b,
        "clips in both": f"{c.clips:,}",
        "windows that meet": f"{c.windows:,}",
        "classes in both": f"{len(c.classes):,}",
        "same class on top": _percent(c.same_top_class),
        "KL, nats a window": f"{c.kl:.4f}",
        "heard (0.5) by both, here only, there only": (
            f"{c.heard_by_both:,} / {c.heard_by_a_only:,} / {c.heard_by_b_only:,}"
        ),
        "classes only here, only there": f"{len(c.classes_only_a):,} / {len(c.classes_only_b):,}",
    }
    return {"fields": fields, "classes": c.classes[:COMPARED_CLASSES], "windows": c.most_different}


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
