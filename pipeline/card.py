"""The README.md inside a store: what it holds, for whoever opens the folder years later."""

from pipeline.teachers import Teacher
from softlabels.spec import LabelSpec

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

Open it with `softlabels.open(".")`, or read `shards/*.parquet` with any Parquet engine: one row a window, keyed by
`clip_id` and `window_index`; only files named in `receipts/` count.

{notice}
"""


def dataset_card(spec: LabelSpec, teacher: Teacher) -> str:
    """The card of a new store."""
    return _CARD.format(
        teacher=spec.teacher,
        version=spec.format_version,
        digest=spec.teacher_digest,
        classes=len(teacher.classes),
        activation=spec.activation,
        window_s=spec.window.window_s,
        rate_hz=spec.window.rate_hz,
        hop_s=spec.window.hop_samples / spec.window.rate_hz,
        layout=spec.layout,
        notice=teacher.notice,
    )
