"""What a run asks for and what its store was made with, held against each other in the words of the command line."""

from collections.abc import Iterator, Mapping
from typing import Any

from pipeline.options import flag_of
from pipeline.teachers.teacher import TeacherChoice
from softlabels.classes.class_list import ClassList
from softlabels.records.spec import LabelSpec
from softlabels.store.reader import StoreReader
from softlabels.windows import WindowSpec

VALUES = "activation", "batch_size", "jitters", "layout", "min_probability", "shard_windows", "components"
READ = "pool", "scale", "offset", "peak"  # how a model is read: flags whose values a spec has
OTHERS = {"scores_output": "--output scores", "embedding_output": "--output embedding"}
OTHERS["embedding"] = "numbers of the embedding"
OTHERS["taxonomy_year"] = "year of the class list's taxonomy (0: not stated)"
FIXED = "decode", "resample", "significand_bits", "zstd_level", "format_version"  # of a version of softlabels
DESCRIBED = "litert", "keras", "onnx"  # teachers that need these flags
OF_TEACHER = "--rate", "--activation", "--batch-size"
NAMED = 3  # classes


def setting_differences(spec: LabelSpec, classes: ClassList, choice: TeacherChoice, store: StoreReader) -> str:
    """`--overlap 1.5 here, 0 in the store` of every setting that differs.

    Args:
      spec, classes, choice: what the run asks for, and the classes that it would keep.
      store: the one that is there.
    """
    own_run = store.own_run()
    found = [
        *_teacher(spec, store.spec, choice, own_run.teacher if own_run else {}),
        *_classes(spec, classes, store, "--labels" if choice.labels else "classes of the teacher"),
        *_window(spec.window, store.spec.window),
        *_switch("--portable", spec.portable, store.spec.portable),
        *_switch("--remove-mean", spec.remove_mean, store.spec.remove_mean),
        *_values(spec, store.spec),
    ]
    if choice.kind not in DESCRIBED:  # a teacher that says itself what it is
        found = [text.removeprefix("--") if text.startswith(OF_TEACHER) else text for text in found]
    return "; ".join(found)


def _teacher(mine: LabelSpec, theirs: LabelSpec, choice: TeacherChoice, before: Mapping[str, Any]) -> Iterator[str]:
    """The model. before: how this user's own run on the store chose it, as far as that is known."""
    kind, model = before.get("kind"), before.get("model")
    of_file, of_theirs = (spec.source_digest or spec.teacher_digest for spec in (mine, theirs))
    if kind and kind != choice.kind:
        yield from _here("--teacher", choice.kind, kind)
    elif mine.teacher == theirs.teacher and of_file != of_theirs and model == choice.model:
        what = f"--model {model}" if model else f"--teacher {choice.kind}"
        yield f"{what} is not what it was when the store was made: its file has changed"
    elif mine.teacher != theirs.teacher or of_file != of_theirs:
        known = bool(model and choice.model)
        yield from _here(*(("--model", choice.model, model) if known else ("teacher", mine.teacher, theirs.teacher)))
    if mine.fold and theirs.fold and mine.fold != theirs.fold:
        yield from _here("folding of the model", mine.fold, theirs.fold)
    elif of_file == of_theirs:
        yield from _switch("--no-fold", not mine.fold, not theirs.fold)


def _classes(spec: LabelSpec, classes: ClassList, store: StoreReader, what: str) -> Iterator[str]:
    full, stored_full = (each.teacher_class_digest or each.class_digest for each in (spec, store.spec))
    keeps = spec.keeps_some or store.spec.keeps_some
    if keeps and classes != store.classes:
        yield f"--keep-classes: {_lists(classes, store.classes)}"
    if full != stored_full:
        lists = "another class list here than in the store" if keeps else _lists(classes, store.classes)
        yield f"{what}: {lists}"


def _lists(mine: ClassList, theirs: ClassList) -> str:
    counts = f"{len(mine):,} here, {len(theirs):,} in the store"
    only = {"only here": [name for name in mine if name not in theirs]}
    only["only in the store"] = [name for name in theirs if name not in mine]
    named = [f"{where} {_some(names)}" for where, names in only.items() if names]
    return f"{counts} ({', '.join(named) or 'in another order'})"


def _some(names: list[str]) -> str:
    return ", ".join(map(repr, names[:NAMED])) + (" and more" if len(names) > NAMED else "")


def _window(mine: WindowSpec, theirs: WindowSpec) -> Iterator[str]:
    yield from _here("--rate", mine.rate_hz, theirs.rate_hz)
    yield from _here("seconds a window", mine.window_s, theirs.window_s)
    overlaps = [(each.window_samples - each.hop_samples) / each.rate_hz for each in (mine, theirs)]
    yield from _here(flag_of("overlap_s"), *overlaps)


def _values(mine: LabelSpec, theirs: LabelSpec) -> Iterator[str]:
    for name in (*VALUES, *READ):
        if name != "min_probability" or mine.layout == theirs.layout:  # dense has none
            yield from _here(flag_of(name), getattr(mine, name), getattr(theirs, name))
    if mine.components == theirs.components and mine.component_digest != theirs.component_digest:
        yield "--components: others here than in the store"
    for name, what in OTHERS.items():
        yield from _here(what, getattr(mine, name), getattr(theirs, name))
    for name in FIXED:
        for text in _here(name, getattr(mine, name), getattr(theirs, name)):
            yield f"{text}, which another version of softlabels made"


def _here(what: str, mine: Any, theirs: Any) -> Iterator[str]:
    if mine != theirs:
        a, b = (f"{value:g}" if isinstance(value, float) else str(value) or "none" for value in (mine, theirs))
        yield f"{what} {a} here, {b} in the store"


def _switch(flag: str, mine: bool, theirs: bool) -> Iterator[str]:
    if mine != theirs:
        here, there = ("with" if given else "without" for given in (mine, theirs))
        yield f"{here} {flag} here, {there} it in the store"
