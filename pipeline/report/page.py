"""The page: findings as plain values, and the template that lays them out."""

import importlib.metadata
from collections import Counter
from pathlib import Path, PurePosixPath
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup

from pipeline.checking.compare import Comparison
from pipeline.report import figures
from pipeline.report.accuracy import measure_accuracy
from pipeline.report.clip_evidence import ClipEvidence, HumanLabels
from pipeline.report.confidence import Confidence
from pipeline.report.listening import Listening
from pipeline.report.survey import Survey
from pipeline.report.suspects import Suspect
from softlabels.calibration.report import CalibrationReport
from softlabels.classes.class_list import ClassList
from softlabels.classes.matching import ClassMatch
from softlabels.records.quarantine import REASONS
from softlabels.storage.location import location
from softlabels.store.reader import StoreReader

SUSPECTS, HEARD_CARDS, HEARD_ROWS, CLASS_ROWS, DUPLICATE_ROWS, LACKING_NAMES = 30, 12, 50, 200, 30, 100
COMPARED_CLASSES = 15


def render(
    store: StoreReader,
    survey: Survey,
    *,
    labels: HumanLabels | None,
    suspects: list[Suspect],
    taught: CalibrationReport | str | None,
    student: ClassList | None,
    match: ClassMatch | None,
    comparison: Comparison | None,
    root: str | Path | None,
) -> str:
    """The page as text; every byte it needs is in it.

    Args:
      labels, taught: None without a manifest; taught: a text where nothing could be measured.
      student, match: None without a student's list.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("pipeline.report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["common"] = lambda name: name.rpartition("_")[2] or name
    environment.filters["scientific"] = lambda name: name.rpartition("_")[0]
    environment.filters["percent"] = _percent
    listening = Listening(store, location(root or store.audio_root() or "."))
    matrix = survey.confusions
    return environment.get_template("report.html.j2").render(
        taught=taught,
        **_contents(store),
        **_confidence(store, survey.confidence, listening),
        **_judgement(store, survey.evidence, suspects, listening),
        labels=labels,
        coverage=_coverage(store, survey.confidence, student, match) if student and match else None,
        confusions=Markup(figures.heat_map(matrix, list(store.classes))) if matrix else None,
        comparison=_comparison(comparison) if comparison else None,
        duplicates=survey.duplicates[:DUPLICATE_ROWS],
        duplicate_count=len(survey.duplicates),
        version=importlib.metadata.version("softlabels"),
    )


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
        "store": PurePosixPath(str(store.storage)).name,
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
        _card(store, listening, int(sure.best_window[c])) | each
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
    store: StoreReader, evidence: ClipEvidence | None, suspects: list[Suspect], listening: Listening
) -> dict[str, Any]:
    """The teacher against the labels; `accuracy` is None where there are none."""
    accuracy = measure_accuracy(evidence, store.classes) if evidence else None
    cards = [
        _card(store, listening, suspect.window) | {"suspect": suspect, "rank": rank}
        for rank, suspect in enumerate(suspects[:SUSPECTS], 1)
    ]
    species = {name for card in cards for name in (*card["suspect"].labels, card["suspect"].teacher_class)}
    return {
        "accuracy": accuracy,
        "class_rows": accuracy.classes[:CLASS_ROWS] if accuracy else (),
        "reliability_figure": Markup(figures.reliability_diagram(accuracy.bins)) if accuracy else "",
        "suspect_cards": cards,
        "suspect_count": len(suspects),
        "suspect_species": sorted(species, key=lambda name: (name.rpartition("_")[2], name)),
    }


def _card(store: StoreReader, listening: Listening, window: int) -> dict[str, Any]:
    """Where a window is, its sound and its picture."""
    index = store.index
    clip_id = index.clips["clip_id"][int(index.stored_clip[window])].as_py()
    return {
        "clip_id": clip_id,
        "window_index": int(index.window_index[window]),
        "start_s": float(index.start_s(window)),
        "extract": listening.extract(window),
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
