"""Choosing a teacher by name, and loading it: once a process, whatever it costs."""

import dataclasses
import importlib

from pipeline.options import flag_of
from pipeline.search_path import look_here_last
from pipeline.teachers.interpreter import check_litert
from pipeline.teachers.known.models import KNOWN
from pipeline.teachers.known.places import backend_of
from pipeline.teachers.own_code import hidden_module, place_of, theirs_explained
from pipeline.teachers.teacher import Teacher, TeacherChoice, embedding_width
from softlabels.errors import StoreError, TeacherError
from softlabels.records.spec import LabelSpec


def load_teacher(choice: TeacherChoice) -> Teacher:
    """Load the teacher that was chosen.

    Raises: TeacherError: unknown kind, files or settings missing, a model that is not what it should be, or one without
      an embedding that is asked for one.
    """
    teacher = _load(choice)
    if choice.embedding and not embedding_width(teacher):
        raise TeacherError(
            f"teacher {choice.kind!r}: {teacher.name!r} has no embedding to keep: leave out --embedding; birdnet has "
            "one, a model with an output for it (--output embedding=NAME), and a teacher class of your own with "
            "`embedding_width` and `score_with_embedding`"
        )
    return teacher


def _load(choice: TeacherChoice) -> Teacher:
    if choice.kind == "birdnet":
        check_litert()
        from pipeline.teachers.birdnet import load_birdnet

        _refuse_settings(choice, *READING, *BATCH_SETTINGS)
        return load_birdnet(choice)
    if choice.fold is not None:
        raise TeacherError(f"teacher {choice.kind!r} is never folded, only birdnet is: leave out --no-fold")
    if choice.kind in KNOWN:
        known = KNOWN[choice.kind]
        fixed = {"batch_size": known.batch_size and not choice.batch_fixed, "window_s": not known.any_window}
        _refuse_settings(choice, *DESCRIBED, *(name for name, holds in fixed.items() if holds))
    backend = backend_of(choice.kind, choice.model)
    if backend == "litert":
        check_litert()
        from pipeline.teachers.litert import load_litert

        _refuse_settings(choice, *BATCH_SETTINGS)
        return load_litert(choice)
    if backend == "keras":
        from pipeline.teachers.keras_model import keras_teacher

        return keras_teacher(choice)
    if backend == "onnx":
        from pipeline.teachers.onnx_model import onnx_teacher

        return onnx_teacher(choice)
    if ":" in choice.kind:
        _refuse_settings(choice, "labels", "portable", *READING, *BATCH_SETTINGS)
        return _load_factory(choice)
    raise TeacherError(f"teacher {choice.kind!r}: expected {', '.join(NAMES)} or module:factory")


def works_in_batches(choice: TeacherChoice) -> bool:
    """Whether a teacher scores many windows at once, in batches of a size that belongs to its store."""
    return backend_of(choice.kind, choice.model) in ("keras", "onnx")


def as_labelled(choice: TeacherChoice, spec: LabelSpec) -> TeacherChoice:
    """The choice, with folding, batch size and embedding of a store's teacher, unless it says itself which.

    Raises: StoreError: the store's teacher was folded in a way that this version of softlabels does not know.
    """
    choice = dataclasses.replace(choice, embedding=choice.embedding or bool(spec.embedding))
    if works_in_batches(choice):
        return dataclasses.replace(choice, batch_size=choice.batch_size or spec.batch_size, batch_fixed=True)
    if choice.kind != "birdnet" or choice.fold is False:
        return choice
    from pipeline.teachers.folding.derived import FOLDINGS

    if spec.fold not in ("", *FOLDINGS):
        raise StoreError(
            f"the store's teacher has folding {spec.fold}, this softlabels makes folding {' and '.join(FOLDINGS)}: "
            "install the version of softlabels named in the store's requirements.txt, or label into another store"
        )
    fold = bool(spec.fold) if choice.fold is None else choice.fold
    return dataclasses.replace(choice, fold=fold, folding=spec.fold)


def _refuse_settings(choice: TeacherChoice, *names: str) -> None:
    for name in names:
        if getattr(choice, name):
            raise TeacherError(f"teacher {choice.kind!r} sets {name} itself: leave out {flag_of(name)}")


def _load_factory(choice: TeacherChoice) -> Teacher:
    module_name, _, factory_name = choice.kind.partition(":")
    look_here_last()
    try:
        if hidden := hidden_module(module_name):
            raise ImportError(hidden)
        with theirs_explained(choice.kind, f"importing {module_name}", but=(ImportError, AttributeError, ValueError)):
            factory = getattr(importlib.import_module(module_name), factory_name)
    except (ImportError, AttributeError, ValueError) as e:
        raise TeacherError(
            f"teacher {choice.kind!r}: expected a function {factory_name!r} in an importable module "
            f"{module_name!r}: {e}{place_of(e)}"
        ) from e
    with theirs_explained(choice.kind, f"{factory_name}()"):
        teacher = factory(choice.model) if choice.model else factory()
    if not isinstance(teacher, Teacher):
        lacking = [name for name in (*Teacher.__annotations__, "score") if not hasattr(teacher, name)]
        raise TeacherError(f"teacher {choice.kind!r}: {type(teacher).__name__} lacks {', '.join(lacking)}")
    return teacher


NAMES = ("birdnet", *KNOWN, "litert", "keras", "onnx")
DESCRIBED = (  # of known models
    "rate_hz",
    "activation",
    "outputs",
    "pool",
    "scale",
    "offset",
    "peak",
    "remove_mean",
    "labels_column",
)
READING = (*DESCRIBED, "output", "window_s")  # how a model of the user's own is read
BATCH_SETTINGS = ("model_sha256", "batch_size", "device")  # of the teachers that work in batches
