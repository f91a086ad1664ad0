"""Which components a store has: its own, those of a file, or so many that are to be fitted, and on which windows."""

import dataclasses
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.teachers.teacher import Teacher
from softlabels.classes.class_list import ClassList
from softlabels.digests import sha256_of_bytes
from softlabels.errors import StoreError
from softlabels.os_errors import told
from softlabels.records.plan_file import PlannedClip
from softlabels.store.components import Components, read_components
from softlabels.store.reader import StoreReader

DEFAULT_COMPONENTS = 64
FITTED_WINDOWS = 512  # twice as many explain half a percent more of BirdNET's variance
FITTED_HOURS = 8  # of files, which may have to be decoded from their start
_SEED = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ComponentChoice:
    """What a run does about components.

    count, digest: of the spec. file: the bytes that a new store needs; b"" where it has them, or has none.
    to_fit: how many are to be fitted before the store is made, or were.
    """

    count: int = 0
    digest: str = ""
    file: bytes = b""
    to_fit: int = 0

    @classmethod
    def of(cls, components: Components, file: bytes) -> "ComponentChoice":
        """Those of a file, byte by byte: stores that share it have one digest."""
        return cls(count=len(components), digest=sha256_of_bytes(file), file=file)

    @property
    def settings(self) -> dict[str, Any]:
        """The fields of a spec."""
        return {"components": self.count, "component_digest": self.digest}


def choose_components(
    wanted: int | str | Path | None, teacher: Teacher, kept: ClassList, existing: StoreReader | None
) -> ComponentChoice:
    """The components of this run's store.

    Args:
      wanted: so many, or the path of a file with some; None is what the store has, and for a new one the default.
      kept: the classes that it keeps.
      existing: the store to go on with.
    Raises: ValueError: no such number, or for a store of all classes. StoreError: the file is damaged or of other
      classes, or the store has others.
    """
    number, most = _number(wanted), len(teacher.classes) - len(kept)
    file = None if wanted is None or number is not None else _read_file(Path(str(wanted)), teacher)
    if kept == teacher.classes:
        if wanted is not None and number != 0:
            raise ValueError(f"--components {wanted}: goes with --keep-classes; a store of all classes needs none")
        return ComponentChoice()
    if existing is not None:
        return _existing_choice(wanted, None if number is None else min(number, most), file, existing)
    if file is not None:
        return file
    return ComponentChoice(to_fit=min(DEFAULT_COMPONENTS if number is None else number, most))


def _existing_choice(
    wanted: int | str | Path | None, number: int | None, file: ComponentChoice | None, store: StoreReader
) -> ComponentChoice:
    """The store's own. Raises: StoreError: damaged, or something else is wanted."""
    spec = store.spec
    own = ComponentChoice(count=spec.components, digest=spec.component_digest)
    asked = read_components(store.storage, spec).asked if own.count else 0
    same = file.digest == own.digest if file is not None else number in (None, own.count, asked)
    if not same:
        raise StoreError(
            f"store '{store.storage}' was made with other settings: --components {wanted} here, {own.count or 'none'} "
            "in the store; leave out --components, or label into another store with -o"
        )
    return own


def _number(wanted: int | str | Path | None) -> int | None:
    """What is meant as a number. Raises: ValueError: below 0."""
    try:
        number = int(wanted)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    if number < 0:
        raise ValueError(f"--components: expected how many, or a components/*.parquet of a store, got {wanted}")
    return number


def _read_file(path: Path, teacher: Teacher) -> ComponentChoice:
    try:
        data = path.read_bytes()
        components = Components.from_bytes(data)
    except (OSError, StoreError) as e:
        raise StoreError(f"--components '{path}': {told(e)}") from e
    if components.classes != teacher.classes:
        raise StoreError(
            f"--components '{path}': of a teacher with {len(components.classes):,} classes, {components.classes[0]!r} "
            f"first; expected the {len(teacher.classes):,} classes of {teacher.name!r}, in its order"
        )
    return ComponentChoice.of(components, data)


def draw_windows(clips: list[PlannedClip], *, most: int = FITTED_WINDOWS) -> list[PlannedClip]:
    """Single windows to fit components on: drawn with a fixed seed, one of each of `most` equal stretches of the plan.

    Only some files are drawn from where all are more than FITTED_HOURS long.
    """
    rng = np.random.Generator(np.random.PCG64(_SEED))
    by_file = defaultdict(list)
    for clip in clips:
        if not clip.reason:
            by_file[clip.path].append(clip)
    files, pool, hours = sorted(by_file), list[PlannedClip](), 0.0
    for i in rng.permutation(len(files)):
        if hours < FITTED_HOURS:
            pool += by_file[files[i]]
            hours += max(clip.end / clip.rate_hz for clip in by_file[files[i]]) / 3600
    pool.sort(key=lambda clip: (clip.path, clip.start, clip.first_window))  # a file is read forwards
    ends = np.cumsum([clip.windows for clip in pool], dtype=np.int64)  # (clips,) of their windows, laid end to end
    total = sum(clip.windows for clip in pool)
    edges = np.arange(min(most, total) + 1) * total // max(1, min(most, total))
    windows = rng.integers(edges[:-1], edges[1:])
    places = np.searchsorted(ends, windows, side="right")
    return [
        dataclasses.replace(pool[i], first_window=pool[i].first_window + pool[i].windows - before_end, windows=1)
        for i, before_end in zip(places.tolist(), (ends[places] - windows).tolist(), strict=True)
    ]
