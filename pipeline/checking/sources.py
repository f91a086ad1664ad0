"""Where audio and teacher come from when a store is scored again: from whoever asks, else from this user's own run.

Never from the store: it may come from anybody, and a teacher is code.
"""

import contextlib
import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.teachers.known.models import KNOWN
from pipeline.teachers.known.places import backend_of
from pipeline.teachers.loading import as_labelled
from pipeline.teachers.teacher import TeacherChoice
from softlabels.audio.root import is_there
from softlabels.errors import StoreError
from softlabels.records.spec import LabelSpec
from softlabels.storage.location import Location, location
from softlabels.store.reader import StoreReader

FLAGS = "--teacher, and with --model, --labels, --outputs and --model-sha256"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """What scores a store again: the audio root, and the teacher with the settings of the store's spec."""

    root: Location
    teacher: TeacherChoice


def find_sources(
    store: StoreReader, *, root: str | Path | None, teacher: str | TeacherChoice | None, model: str | Path | None
) -> Sources:
    """Audio and teacher of a store, as its user names them.

    Args:
      root: of the audio; None is that of this user's own run on this store, at this place.
      teacher: "birdnet", "module:factory" or a `TeacherChoice`, whose rate and activation the store knows; None is the
        one of this user's own run, else the installed BirdNET where the store says that it was BirdNET.
      model: in place of that teacher's.
    Raises: StoreError: nobody but the store says what it is, or there is no audio.
    """
    from pipeline.teachers.birdnet import NAME  # every command imports this file, few load a model

    run = store.own_run()
    chosen_root = root or (run and run.audio_root)
    if not chosen_root or not is_there(location(chosen_root)):
        what = f"no audio at '{chosen_root}'" if chosen_root else "no audio root, as no run of yours made it here"
        raise StoreError(
            f"store '{store.storage}': {what}; name it with --root (run.json may say where it was, but anybody may "
            "have written that)"
        )
    choice = TeacherChoice(kind=teacher) if isinstance(teacher, str) else teacher
    if choice is None and run is not None:
        with contextlib.suppress(TypeError):  # a newer softlabels knows more fields
            choice = TeacherChoice(**run.teacher)
    if choice is None and store.spec.teacher == NAME:
        choice = TeacherChoice()
    if choice is None:
        raise StoreError(
            f"store '{store.storage}': no run of yours made it here, and what a store says of its teacher "
            f"({store.spec.teacher[:80]!r}) is not run: name the teacher with {FLAGS} where it needs them"
        )
    if model is not None:
        choice = dataclasses.replace(choice, model=str(model))
    return Sources(root=location(chosen_root), teacher=as_labelled(_as_in_spec(choice, store.spec), store.spec))


def _as_in_spec(choice: TeacherChoice, spec: LabelSpec) -> TeacherChoice:
    """The choice with what the spec knows of its teacher, so that nobody has to say it again."""
    backend = backend_of(choice.kind, choice.model)
    if choice.kind == "birdnet" or backend == "litert":
        choice = dataclasses.replace(choice, portable=spec.portable)
    if not backend:
        return choice
    named = {"scores": spec.scores_output, "embedding": spec.embedding_output}
    known: dict[str, Any] = {"output": tuple(f"{role}={name}" for role, name in named.items() if name)}
    if choice.kind not in KNOWN or KNOWN[choice.kind].any_window:
        known["window_s"] = spec.window.window_s
    if choice.kind not in KNOWN:
        known |= {"rate_hz": spec.window.rate_hz, "activation": spec.activation, "pool": spec.pool}
        known |= {"scale": spec.scale, "offset": spec.offset, "peak": spec.peak or None}
        known["remove_mean"] = spec.remove_mean
    open_fields = {name: value for name, value in known.items() if not getattr(choice, name)}
    return dataclasses.replace(choice, **open_fields)
