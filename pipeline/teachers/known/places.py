"""Where a known model is: as its user says, or in the package that brings it, which is found and never imported."""

import importlib.util
from pathlib import Path

from pipeline.teachers.known.models import KNOWN, KnownModel
from softlabels.errors import TeacherError

BACKENDS = {".tflite": "litert", ".onnx": "onnx", ".keras": "keras", "": "keras"}


def find_known(known: KnownModel, model: str | None, labels: str | None) -> tuple[Path, Path]:
    """(model, class list) of a known model. Raises: TeacherError: one of them is nowhere."""
    package = package_of(known)
    if package is not None:
        model, labels = model or str(package / known.model), labels or str(package / known.labels)
    if model and labels:
        return Path(model), Path(labels)
    missing = " and ".join(flag for flag, path in {"--model": model, "--labels": labels}.items() if not path)
    brought = f"`{known.install}` brings it, or " * bool(known.install)
    raise TeacherError(
        f"teacher {known.name!r}: the model is not on this machine: {brought}give {missing}: a .tflite or .onnx file "
        f"or a SavedModel folder, and {known.classes}"
    )


def backend_of(kind: str, model: str | None) -> str:
    """What runs a teacher, "litert", "keras" or "onnx"; "" for one that is none of these, or whose model is not there.

    Raises: TeacherError: the file of a known model has another form.
    """
    if kind not in KNOWN:
        return kind if kind in BACKENDS.values() else ""
    known = KNOWN[kind]
    path = Path(model) if model else (package_of(known) or Path()) / known.model
    if path.is_dir():
        return "keras"
    if path.suffix not in BACKENDS:
        raise TeacherError(
            f"teacher {kind!r}: expected a .tflite or .onnx file or a SavedModel folder, got --model '{path}'"
        )
    return BACKENDS[path.suffix]


def package_of(known: KnownModel) -> Path | None:
    """The folder of the package that brings a known model; None where none does, or it is not installed."""
    spec = importlib.util.find_spec(known.package) if known.package else None
    return Path(spec.origin).parent if spec is not None and spec.origin is not None else None
