"""Where audio and teacher come from when a store is scored again: from whoever asks, else from this user's own run.

Never from the store: it may come from anybody, and a teacher is code.
"""

import contextlib
import dataclasses
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.teachers.known.models import KNOWN
from pipeline.teachers.known.places import backend_of
from pipeline.teachers.loading import as_labelled
from pipeline.teachers.teacher import TeacherChoice
from softlabels.audio.root import is_there
from softlabels.corpus.clip_paths import read_clips_below
from softlabels.corpus.manifest import Clip
from softlabels.errors import ManifestError, StoreError
from softlabels.records.spec import LabelSpec
from softlabels.storage.location import Location, location
from softlabels.store.own_runs import OwnRun
from softlabels.store.reader import StoreReader

FLAGS = "--teacher, and with --model, --labels, --outputs and --model-sha256"


logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """What scores a store again: the audio root, the manifest's clips, and the teacher as the store's spec has it."""

    root: Location
    clips: list[Clip]
    teacher: TeacherChoice


def find_sources(
    store: StoreReader,
    *,
    root: str | Path | None,
    manifest: str | Path | None = None,
    teacher: str | TeacherChoice | None,
    model: str | Path | None,
) -> Sources:
    """Audio and teacher of a store, as its user names them.

    Args:
      root: of the audio; None is that of this user's own run on this store, at this place, if it is there, else the
        folder of the manifest that is named.
      manifest: where each clip's file is now; None is that of this user's own run, if it is there.
      teacher: "birdnet", "module:factory" or a `TeacherChoice`, whose rate and activation the store knows; None is the
        one of this user's own run, else the installed BirdNET where the store says that it was BirdNET.
      model: in place of that teacher's.
    Raises: StoreError: nobody but the store says what it is, or there is no audio. ManifestError: a faulty manifest.
    """
    run = store.own_run()
    audio_root, lacking = _audio_root(run, root, manifest)
    choice = _choice(store, run, teacher)
    if choice is None:
        lacking.append(
            f"no run of yours made it here, and what a store says of its teacher ({store.spec.teacher[:80]!r}) is not "
            f"run: name the teacher with {FLAGS} where it needs them"
        )
    if audio_root is None or choice is None:
        raise StoreError(
            f"store '{store.storage}': {'; '.join(lacking)}. `softlabels run` with manifest and teacher remembers both "
            "and labels nothing again"
        )
    if model is not None:
        choice = dataclasses.replace(choice, model=str(model))
    return Sources(
        root=audio_root,
        clips=_clips(run, audio_root, manifest),
        teacher=as_labelled(_as_in_spec(choice, store.spec), store.spec),
    )


def _audio_root(
    run: OwnRun | None, root: str | Path | None, manifest: str | Path | None
) -> tuple[Location | None, list[str]]:
    """Where the audio is, or why nobody knows."""
    chosen = root or (run and run.audio_root)
    if chosen and is_there(location(chosen)):
        return location(chosen), []
    if root is None and manifest is not None:
        return Path(manifest).resolve().parent, []
    what = f"no audio at '{chosen}'" if chosen else "no audio root, as no run of yours made it here"
    hint = "run.json may say where it was, but anybody may have written that"
    return None, [f"{what}; name it with --root, or the file that lists it with --manifest ({hint})"]


def _choice(store: StoreReader, run: OwnRun | None, teacher: str | TeacherChoice | None) -> TeacherChoice | None:
    """The teacher as it was named, or as this user's own run had it; None where only the store says it."""
    from pipeline.teachers.birdnet import NAME  # every command imports this file, few load a model

    choice = TeacherChoice(kind=teacher) if isinstance(teacher, str) else teacher
    if choice is None and run is not None:
        with contextlib.suppress(TypeError):  # a newer softlabels knows more fields
            choice = TeacherChoice(**run.teacher)
    if choice is None and store.spec.teacher == NAME:
        choice = TeacherChoice()
    return choice


def _clips(run: OwnRun | None, root: Location, manifest: str | Path | None) -> list[Clip]:
    """The clips of the manifest that was named, else of that of this user's own run, as far as there is one."""
    if manifest is not None:
        return read_clips_below(manifest, root)
    if run is None or not run.manifest or not Path(run.manifest).is_file():
        return []
    try:
        return read_clips_below(run.manifest, root)
    except ManifestError as e:  # nobody asked for it
        logger.warning("files are looked for where they were planned, not where the manifest has them: %s", e)
        return []


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
