"""Joined labels made from two arrays, without audio, teacher or store."""

import hashlib
import io
from pathlib import Path

import numpy as np
import pyarrow as pa

from softlabels.corpus.hard_labels import HardLabels
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
    text |= {"path": [f"k{i}.wav" for i in range(clips)], **columns}
    known = ~np.isnan(hard)
    buffer = io.BytesIO()
    np.save(buffer, soft.astype(np.float32))
    digest = hashlib.sha256(hashlib.sha256(buffer.getvalue()).digest()).digest()  # of one block
    (folder / "soft-made.npy").write_bytes(buffer.getvalue() + digest)
    arrays = JoinArrays(
        clips=pa.table(
            {
                **text,
                "windows": per_clip.tolist(),
                "start": [0] * clips,
                "rate_hz": [8] * clips,
                "in_time": in_time if isinstance(in_time, list) else [in_time] * clips,
            }
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
        soft=soft,
    )
    header = {
        "fingerprint": digest.hex(),
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
    write_join(folder / "join", arrays, header, soft=folder / "soft-made.npy")
    return JoinedLabels.open(folder / "join")
