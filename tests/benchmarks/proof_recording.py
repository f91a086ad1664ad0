"""A field recording: how much of what BirdNET says of it a small student can say of the part it has not heard.

This measures the transfer of labels, not generalisation: both parts are minutes of one place and one day.
"""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from arms import taught
from students import LogMel, answers, keep_features

import pipeline
import softlabels

HOP_S = 0.25
JITTERS = 4
TRAIN_SHARE = 0.75
HEARD = 0.1  # a class counts if the teacher says so much of it in at least one training window
LONGER = {"steps": 1600, "rate": 5e-3, "prior": True, "varied": True}  # chosen on three splits of the first 75 %
LOWEST, HIGHEST = 2.0**-126, 1 - 2.0**-24  # probabilities of 0 and 1 need logarithms


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """Mean Bernoulli KL to the teacher on the test windows, nats summed over the classes.

    student: (seeds,); constant: of the mean of the training labels; one number.
    """

    student: np.ndarray
    constant: float
    classes: int
    train_windows: int
    test_windows: int

    @property
    def ratio(self) -> float:
        return float(self.student.mean() / self.constant)


def transfer(
    recording: Path, work: Path, seeds: range, *, part: tuple[float, float] = (0.0, 1.0), jobs: int
) -> Transfer:
    """Train on the first three quarters of a part of the recording, test on the rest, a window's gap between them.

    Args:
      part: from and to, as shares of the recording; choices are made on the first three quarters of it alone.
      jobs: processes.
    """
    folder = work / "recording"
    store = label_recording(recording, folder)
    everything = store.join(folder / "data_manifest.csv", root=recording.parent)
    learnt, tested = split_windows(everything, part)
    heard = everything.soft()[learnt].max(axis=0) >= HEARD  # (classes,)
    classes = [name for name, is_heard in zip(store.classes, heard, strict=True) if is_heard]
    labels = store.join(folder / "data_manifest.csv", classes=classes, root=recording.parent)
    pictures = keep_features(labels, LogMel(), folder / "x.npy")
    soft = labels.soft()
    lessons = [dataclasses.replace(taught(labels, seed), rows=learnt, **LONGER) for seed in seeds]
    said = [1 / (1 + np.exp(-z.astype(np.float64))) for z in answers(lessons, pictures, pictures, jobs=jobs)]
    return Transfer(
        student=np.array([divergence(soft[tested], one[tested]) for one in said]),
        constant=divergence(soft[tested], soft[learnt].mean(axis=0, dtype=np.float64)),
        classes=len(classes),
        train_windows=len(learnt),
        test_windows=len(tested),
    )


def label_recording(recording: Path, folder: Path) -> softlabels.SoftLabelStore:
    """BirdNET's labels of the recording on a dense grid; made once."""
    folder.mkdir(parents=True, exist_ok=True)
    manifest = folder / "data_manifest.csv"
    softlabels.write_manifest([softlabels.Clip(clip_id=recording.name, path=recording.name)], manifest)
    if not list((folder / "soft_labels").glob("_SUCCESS-*.json")):
        labelling = pipeline.LabelOptions(overlap_s=3 - HOP_S, jitters=JITTERS)
        pipeline.run(manifest, folder / "soft_labels", root=recording.parent, labelling=labelling)
    return softlabels.open(folder / "soft_labels")


def split_windows(labels: softlabels.JoinedLabels, part: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """The rows of the training and of the test windows of a part, which share no audio."""
    start_s = labels.keys.start_s.to_numpy()
    end_s = start_s + labels.window.window_s
    low, high = np.array(part) * end_s.max()
    border = low + TRAIN_SHARE * (high - low)
    inside = (start_s >= low) & (end_s <= high)
    learnt = np.flatnonzero(inside & (end_s <= border))
    return learnt, np.flatnonzero(inside & (start_s >= border + labels.window.window_s))


def divergence(p: np.ndarray, q: np.ndarray) -> float:
    """Mean over windows of the KL of Bernoulli distributions in nats, (windows, classes) each, summed over classes."""
    p, q = (np.clip(x.astype(np.float64), LOWEST, HIGHEST) for x in (p, q))
    return float((p * np.log(p / q) + (1 - p) * (np.log1p(-p) - np.log1p(-q))).sum(axis=-1).mean())
