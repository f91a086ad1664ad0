"""Cards: a window to look at and to listen to, and what a person may answer where its clip's label is in doubt."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup, escape

from pipeline.drafts.marks import is_background, row_of
from pipeline.report.clip_evidence import HumanLabels
from pipeline.report.listening import Listening
from pipeline.report.suspects import Suspect
from softlabels.corpus.label_cell import BETWEEN, NOISE, check_names
from softlabels.corpus.name_lists import CellFault
from softlabels.store.reader import StoreReader
from softlabels.tables import row_text

CHOICES = 6  # classes of the teacher's that a card offers
OTHER_NAMES = 1000  # of the manifest that every card offers


def window_card(store: StoreReader, listening: Listening, window: int) -> dict[str, Any]:
    """Where a window is, its sound and its picture."""
    index = store.index
    clip_id = index.clips["clip_id"][int(index.stored_clip[window])].as_py()
    extract = listening.extract(window)
    start_s = float(index.start_s(window))
    return {"clip_id": clip_id, "start_s": start_s, "path": listening.path_of(window), "extract": extract}


def suspect_cards(
    store: StoreReader, listening: Listening, labels: HumanLabels, suspects: Sequence[Suspect]
) -> list[dict[str, Any]]:
    """The cards of suspects, in their order. choices: (as marks.csv has it, text) of what else may be there.

    row: the end of the clip's row in marks.csv. has: names of what the clip has, as marks.csv has them, one a line.
    others: what else it is labelled with.
    """
    taken = store.take([(suspect.clip_id, suspect.window_index) for suspect in suspects])
    own = {position: name for name, position in reversed(labels.names.items())}
    cards = []
    for rank, (suspect, probabilities) in enumerate(zip(suspects, taken, strict=True), 1):
        given = suspect.clip.labels or ()
        has = {labels.names[name] for name in given if name in labels.names}
        best = [int(c) for c in np.argsort(-probabilities, kind="stable")[: CHOICES + len(has)] if int(c) not in has]
        choices = [
            (own.get(c, store.classes[c]), f"{shown(store.classes[c])}, {chance(probabilities[c])}") for c in best
        ]
        card = window_card(store, listening, suspect.window) | {"suspect": suspect, "rank": rank}
        card["choices"] = [(_cell(name), text) for name, text in choices[:CHOICES] if _fits(name)]
        card["others"] = [name for name in given if name not in suspect.label.split(BETWEEN)]
        card["species"] = [*suspect.labels, suspect.teacher_class]
        card["has"] = _attribute("\n".join(row_text([n]) for n, at in labels.names.items() if n in given or at in has))
        card["row"] = _attribute(row_of(suspect.clip, suspect.label))
        card["background"] = is_background(suspect.label)
        card["may_be_noise"] = not card["background"] and not card["others"]
        cards.append(card)
    return cards


def other_names(names: Iterable[str]) -> list[tuple[str, str]]:
    """(as marks.csv has it, text) of the labels that a manifest uses, which every card offers."""
    listed = sorted((name for name in names if name != NOISE and _fits(name)), key=lambda name: (shown(name), name))
    return [(_cell(name), shown(name)) for name in listed[:OTHER_NAMES]]


def halves(name: str) -> tuple[str, str]:
    """The common and the scientific name of a class that has both, else its name as it is and ""."""
    scientific, _, common = name.rpartition("_")
    if common and scientific == common:
        return common, ""
    return (common, scientific) if common and " " in scientific else (name, "")


def shown(name: str) -> str:
    """A class name on one line."""
    common, scientific = halves(name)
    return f"{common} ({scientific})" if scientific else common


def chance(probability: float) -> str:
    """A probability with three digits, never 0 or 1 where it is not."""
    if 0 < probability < 0.001:
        return "< 0.001"
    return "> 0.999" if 0.999 < probability < 1 else f"{probability:.3f}"


def _cell(name: str) -> Markup:
    return _attribute(row_text([name]))


def _attribute(text: str) -> Markup:
    """A text for a program to read: what a person is shown has its odd characters escaped."""
    return escape(text)


def _fits(name: str) -> bool:
    """Whether a manifest can hold a class name."""
    try:
        check_names([name])
    except CellFault:
        return False
    return True
