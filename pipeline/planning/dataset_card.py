"""The README.md inside a store: what it holds, for whoever opens the folder years later."""

import importlib.metadata
import re

from pipeline.teachers.teacher import Teacher
from softlabels.classes.class_list import ClassList
from softlabels.records.spec import LabelSpec
from softlabels.store.components import components_key

_CARD = """\
# Soft labels by {teacher}

Probabilities that a teacher model gave to windows of audio, kept by `softlabels` (format version {version}).

| | |
|---|---|
| teacher | {teacher}, sha256 `{digest}` |
| classes | {classes}, in the order of `classes.txt` |
| activation | {activation} |
| window | {window_s:g} s at {rate_hz} Hz, every {hop_s:g} s |
| layout | {layout} |
{vectors}
Open it with `softlabels.open(".")`, or read `shards/*.parquet` with any Parquet engine: one row a window, keyed by
`clip_id` and `window_index`; only files named in `receipts/` count.

{notice}
"""
_READING = "| how the model was read | {} |\n"
_EMBEDDING = "| embedding | {} numbers a window that the teacher's last layer made its scores of |\n"
_COMPONENTS = "| components | {} numbers a window that sum up the log-odds of all the teacher's classes; see `{}` |\n"


def dataset_card(spec: LabelSpec, teacher: Teacher, classes: ClassList) -> str:
    """The card of a new store."""
    components = _COMPONENTS.format(spec.components, components_key(spec.component_digest)) if spec.components else ""
    reading = _READING.format(spec.reading) if spec.reading else ""
    embedding = _EMBEDDING.format(spec.embedding) if spec.embedding else ""
    return _CARD.format(
        teacher=spec.teacher,
        version=spec.format_version,
        digest=spec.teacher_digest,
        classes=len(classes),
        activation=spec.activation,
        window_s=spec.window.window_s,
        rate_hz=spec.window.rate_hz,
        hop_s=spec.window.hop_s,
        layout=spec.layout,
        vectors=reading + components + embedding,
        notice=teacher.notice,
    )


def requirements() -> str:
    """Everything installed here that softlabels needs, with exact versions, for whoever makes a shard again."""
    pinned: dict[str, str] = {}
    todo = ["softlabels", "onnxruntime"]  # the second only where the extra is there
    while todo:
        try:
            found = importlib.metadata.distribution(todo.pop())
        except importlib.metadata.PackageNotFoundError:
            continue  # an extra, or a requirement of another platform
        name = found.name.lower().replace("_", "-")
        if name not in pinned:
            pinned[name] = found.version
            needed = [line for line in found.requires or () if "extra ==" not in line]
            todo += [re.split(r"[^A-Za-z0-9._-]", line, maxsplit=1)[0] for line in needed]
    return "".join(f"{name}=={version}\n" for name, version in sorted(pinned.items()))
