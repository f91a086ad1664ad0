"""Joined labels made from two arrays, without audio, teacher or store."""

import hashlib
from pathlib import Path

import numpy as np
import pyarrow as pa

from softlabels.corpus.clip_table import IN_TIME, SCHEMA
from softlabels.corpus.hard_labels import HardLabels
from softlabels.kept.soft_file import open_soft, write_soft
from softlabels.labels.arrays import JoinArrays
from softlabels.labels.joined_labels import JoinedLabels
from softlabels.labels.report import JoinReport
from softlabels.labels.saved import write_join

_COUNTS = ("clips", "rows", "rows_both", "rows_hard_only", "rows_soft_only", "rows_neither", "windows_quarantined")
_COUNTS += ("windows_missing", "shared_audio", "agreement_rows")
_LISTS = ("hard_only_examples", "soft_only_examples", "quarantined_examples", "missing_examples", "unmatched")
_LISTS += ("shared_audio_examples", "per_class", "notes")
REPORT = JoinReport(
    **dict.fromkeys(_COUNTS, 0), **dict.fromkeys(_LISTS, ()), splits={}, matched={}, agreement=None, canary="not tested"
)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-np.asarray(x, np.float64)))


def made_labels(
    folder: Path,
    hard: np.ndarray,
    soft: np.ndarray,
    *,
    activation: str = "sigmoid",
    windows: int | np.ndarray = 1,
    classes: list[str] | None = None,
    in_time: bool | list[bool] = False,
    **columns: list[str],
) -> JoinedLabels:
    """(rows, classes) each; so many rows a clip, or (clips,) of each. columns: path, split or fold of each clip."""
    rows, width = soft.shape
    per_clip = np.full(rows // windows, windows) if isinstance(windows, int) else windows
    clips, clip_row = len(per_clip), np.repeat(np.arange(len(per_clip)), per_clip)
    window_index = np.arange(rows) - np.repeat(np.cumsum(per_clip) - per_clip, per_clip)
    folder.mkdir(parents=True)
    text = {"clip_id": [f"k{i}" for i in range(clips)], "split": [""] * clips, "fold": [""] * clips}
    text |= {name: [""] * clips for name in ("label", "container", "sha256", "reason")}
    text |= {"path": [f"k{i}.wav" for i in range(clips)], **columns}
    numbers = {name: [0] * clips for name in ("start", "end", "frames", "channels", "size")}
    numbers |= {"windows": per_clip.tolist(), "rate_hz": [8] * clips}
    known = ~np.isnan(hard)
    digest = hashlib.sha256(soft.astype(np.float32).tobytes()).hexdigest()
    soft_path = folder / f"soft-{digest}.npy"
    write_soft(soft_path, soft.shape, [soft])
    arrays = JoinArrays(
        clips=pa.table(
            {
                **{field.name: text.get(field.name, numbers.get(field.name)) for field in SCHEMA},
                "in_time": in_time if isinstance(in_time, list) else [in_time] * clips,
            },
            SCHEMA.append(IN_TIME),
        ),
        clip_row=clip_row.astype(np.int32),
        window_index=window_index.astype(np.int32),
        start_s=window_index.astype(np.float64),
        hard=HardLabels(
            base=np.full(rows, np.nan, np.float32),
            offsets=np.concatenate([[0], np.cumsum(known.sum(axis=1))]),
            index=np.nonzero(known)[1].astype(np.int32),
            value=hard[known].astype(np.float32),
        ),
        hard_group=np.arange(rows, dtype=np.int32),
        soft=open_soft(soft_path, soft.shape),
    )
    header = {
        "fingerprint": digest,
        "root": str(folder),
        "classes": classes or [f"class {i}" for i in range(width)],
        "activation": activation,
        "window": {"rate_hz": 8, "window_samples": 8, "hop_samples": 8},
        "windows": "each",
        "report": REPORT.to_json(),
        "steps": [],
        "class_trust": None,
        "calibration": None,
    }
    write_join(folder / "join", arrays, header, soft=soft_path)
    return JoinedLabels.open(folder / "join")
