"""What goes into a join: JoinOptions, the choices; JoinInputs, everything, and the digest it is kept under."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from softlabels.batches.rows import Pooling
from softlabels.classes.class_list import ClassList
from softlabels.classes.matching import MIN_COVERAGE
from softlabels.corpus.annotation_tables import annotation_files
from softlabels.corpus.label_names import OtherLabels
from softlabels.digests import sha256_if_there, sha256_of
from softlabels.labels.saved import JOIN_VERSION
from softlabels.storage.location import Location
from softlabels.store.reader import StoreReader

Missing = Literal["error", "drop", "hard"]
WeakLabels = Literal["spread", "best"]
_FILES = ("mapping", "annotations", "annotated_extents")  # of JoinOptions; they count by content


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinOptions:
    """What a join depends on besides store, manifest and class list; see `SoftLabelStore.join`."""

    split: str | None = None
    missing: Missing = "error"
    windows: Pooling = "each"
    mapping: str | Path | None = None
    min_coverage: float = MIN_COVERAGE
    annotations: str | Path | Sequence[str | Path] | None = None
    annotated_extents: str | Path | None = None
    annotation_column: str | None = None
    weak_labels: WeakLabels = "spread"
    other_labels: OtherLabels = "error"
    canary: bool = True

    @classmethod
    def of(cls, arguments: Mapping[str, Any]) -> "JoinOptions":
        """The choices among the arguments of a join."""
        return cls(**{each.name: arguments[each.name] for each in dataclasses.fields(cls)})

    def __post_init__(self) -> None:
        closed = {"missing": Missing, "windows": Pooling, "weak_labels": WeakLabels, "other_labels": OtherLabels}
        for name, choices in closed.items():
            if getattr(self, name) not in get_args(choices):
                listed = ", ".join(map(repr, get_args(choices)))
                raise ValueError(f"{name}: expected one of {listed}, got {getattr(self, name)!r}")
        if not 0 <= self.min_coverage <= 1:
            raise ValueError(f"min_coverage: expected a number from 0 to 1, got {self.min_coverage}")
        if self.windows != "each" and (self.annotations is not None or self.weak_labels == "best"):
            raise ValueError(
                f"windows={self.windows!r}: annotations in time and weak_labels='best' are about single windows; join "
                "with windows='each'"
            )
        if self.annotated_extents is not None and self.annotations is None:
            raise ValueError("annotated_extents: expected `annotations` beside them, got None")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class JoinInputs:
    """All that a join is made from. classes: the student's; root: below which the audio is."""

    store: StoreReader
    manifest: str | Path
    classes: ClassList
    options: JoinOptions
    root: Location

    def fingerprint(self) -> str:
        """sha256 of all that a join depends on: files by content, the store by its spec and its listing."""
        options = self.options
        choices = {name: value for name, value in dataclasses.asdict(options).items() if name not in _FILES}
        annotations = [] if options.annotations is None else annotation_files(options.annotations)
        sources = [self.manifest, options.mapping, options.annotated_extents, *annotations]  # each in its place
        files = [file and (Path(file).name, sha256_if_there(file)) for file in sources]  # Raven tables name recordings
        spec, state = self.store.spec.fingerprint(), self.store.state()
        return sha256_of([JOIN_VERSION, spec, state, self.classes.digest, choices, files])
