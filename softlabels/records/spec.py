"""LabelSpec: everything that changes the bytes of a shard, and nothing that does not."""

import dataclasses
import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, get_args, get_type_hints

from softlabels.classes.class_list import Activation
from softlabels.digests import is_sha256, sha256_of
from softlabels.errors import StoreError
from softlabels.windows import WindowSpec

FORMAT_VERSION = 1
MAX_JITTERS = 64
MAX_RATE_HZ = 1 << 20  # of audio and teachers; with it and MAX_SAMPLES, all arithmetic is exact in 64 bits
MAX_SAMPLES = 1 << 40  # of a file
LIMITS = {"shard_windows": (1 << 31) - 1, "batch_size": 1 << 20, "components": 1 << 12, "significand_bits": 23}
LIMITS |= {"embedding": 1 << 14, "zstd_level": 22}
MAX_TEXT = 10_000
Layout = Literal["dense", "sparse"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelSpec:
    """The settings of a store. Two stores with equal fingerprints and equal audio have equal shards.

    teacher, teacher_digest: the teacher's name, and the sha256 of what it computes with (its model file).
    fold, source_digest: how that was derived, and the sha256 of the file it was derived from; "" if it was not.
    class_digest: of the class list in `classes.txt`.
    activation: "sigmoid" (classes independent) or "softmax" (exclusive).
    window: the grid on which clips are scored.
    batch_size: windows per forward pass; partial batches are padded, because it can change bits.
    jitters: how many fixed shifts within 50 ms the teacher's probabilities are the mean of; 1 is none.
    teacher_class_digest: of the teacher's full class list where the store keeps only some of its classes; else "".
    components: how many components of all the teacher's log-odds stand beside the kept classes, and component_digest:
      the sha256 of the file with their mean and basis; 0 and "" where there are none.
    embedding: how many numbers of the teacher's embedding stand beside the probabilities; 0 where there are none.
    scores_output, embedding_output: which of the model's outputs were read; "" where there is one.
    pool: "max" or "mean" of the model's scores over the frames of a window; "" if it has none.
    scale, offset: the model's scores times scale plus offset were taken for its answer, before the activation.
    remove_mean, peak: windows were given to the model without their mean, and scaled to this peak; 0 is unscaled.
    taxonomy_year: of the names in the teacher's class list, where that states one; else 0.
    portable: the teacher ran without CPU-specific kernels.
    layout: "dense", or "sparse" with the classes above min_probability and the sum of the rest.
    shard_windows: at most so many windows a shard.
    decode, resample, significand_bits: fixed in this version of the format, named so that they are on record.
    zstd_level: how hard shards are compressed; older stores do not say it, and have 6.
    """

    teacher: str
    teacher_digest: str
    class_digest: str
    activation: Activation
    window: WindowSpec
    shard_windows: int
    batch_size: int = 1
    portable: bool = False
    layout: Layout = "dense"
    min_probability: float = 0.0
    decode: str = "float32, mean of channels"
    resample: str = "soxr HQ, whole file"
    significand_bits: int = 8
    zstd_level: int = 6
    jitters: int = 1
    teacher_class_digest: str = ""
    components: int = 0
    component_digest: str = ""
    embedding: int = 0
    fold: str = ""
    source_digest: str = ""
    scores_output: str = ""
    embedding_output: str = ""
    pool: str = ""
    scale: float = 1.0
    offset: float = 0.0
    peak: float = 0.0
    remove_mean: bool = False
    taxonomy_year: int = 0
    format_version: int = FORMAT_VERSION

    def __post_init__(self) -> None:
        sparse, p = self.layout == "sparse", self.min_probability
        beyond = [name for name, most in LIMITS.items() if getattr(self, name) > most]
        if beyond:
            raise ValueError(f"{beyond[0]}: expected at most {LIMITS[beyond[0]]}, got {getattr(self, beyond[0])}")
        for name, holds, expected in (
            ("activation", self.activation in get_args(Activation), "sigmoid or softmax"),
            ("layout", self.layout in get_args(Layout), "dense or sparse"),
            ("shard_windows", self.shard_windows > 0, "1 or more"),
            ("batch_size", self.batch_size > 0, "1 or more"),
            ("significand_bits", self.significand_bits > 0, "1 or more"),
            ("zstd_level", self.zstd_level > 0, "1 or more"),
            ("jitters", 1 <= self.jitters <= MAX_JITTERS, f"1 to {MAX_JITTERS}"),
            ("fold", bool(self.fold) == bool(self.source_digest), "'' if source_digest is ''"),
            ("pool", self.pool in ("", "max", "mean"), "max, mean or ''"),
            ("scale", 0 < self.scale < math.inf, "above 0"),
            ("offset", math.isfinite(self.offset), "a finite number"),
            ("peak", 0 <= self.peak <= 1, "0 to 1"),
            ("taxonomy_year", self.taxonomy_year >= 0, "0 or more"),
            ("components", self.components >= 0 and (self.keeps_some or not self.components), "0 where all are kept"),
            ("embedding", self.embedding >= 0, "0 or more"),
            ("component_digest", bool(self.component_digest) == bool(self.components), "'' if components is 0"),
            (
                "min_probability",
                0 < p < 1 if sparse else p == 0,
                "between 0 and 1 (both excluded) with layout sparse, 0 with dense",
            ),
        ):
            if not holds:
                raise ValueError(f"{name}: expected {expected}, got {getattr(self, name)!r}")

    @property
    def keeps_some(self) -> bool:
        """Whether the store keeps only some of the teacher's classes."""
        return bool(self.teacher_class_digest)

    @property
    def vectors(self) -> dict[str, int]:
        """The columns that hold a vector a window beside its probabilities: name -> length."""
        lengths = {"components": self.components, "embedding": self.embedding}
        return {name: length for name, length in lengths.items() if length}

    @property
    def reading(self) -> str:
        """How the teacher's model was read, for people; "" for one that was taken as it is."""
        parts = {
            "windows without their mean": self.remove_mean,
            f"windows scaled to a peak of {self.peak:g}": self.peak,
            f"scores of output {self.scores_output!r}": self.scores_output,
            f"embedding of output {self.embedding_output!r}": self.embedding_output,
            f"{self.pool} over frames": self.pool,
            f"scores * {self.scale:g} + {self.offset:g}": self.scale != 1 or self.offset,
        }
        return ", ".join(text for text, holds in parts.items() if holds)

    def to_json(self) -> dict[str, Any]:
        """All fields; the later ones only where they say something, so that older stores keep their fingerprint."""
        later = {"jitters": 1, "teacher_class_digest": "", "fold": "", "source_digest": ""}
        later |= {"components": 0, "component_digest": "", "embedding": 0, "pool": ""}
        later |= {"scores_output": "", "embedding_output": "", "scale": 1.0, "offset": 0.0, "peak": 0.0}
        later |= {"remove_mean": False, "taxonomy_year": 0, "zstd_level": 6}
        return {name: value for name, value in dataclasses.asdict(self).items() if value != later.get(name)}

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> "LabelSpec":
        """Raises: StoreError: written by a newer version, or not a spec."""
        version = fields.get("format_version")
        if version != FORMAT_VERSION:
            raise newer_format(version)
        try:
            _check_kinds(fields["window"], WindowSpec)
            window = WindowSpec(**fields["window"])
            if not 0 < window.rate_hz <= MAX_RATE_HZ or window.window_samples > MAX_SAMPLES:
                raise ValueError(f"window: expected 1 to {MAX_RATE_HZ} Hz and at most {MAX_SAMPLES} samples")
            _check_kinds({**fields, "window": window}, cls)
            spec = cls(**{**fields, "window": window})
            for name in ("class_digest", "teacher_class_digest", "component_digest", "source_digest"):
                if not is_sha256(getattr(spec, name)) and (name == "class_digest" or getattr(spec, name)):
                    raise ValueError(f"{name}: expected 64 hexadecimal digits, got {getattr(spec, name)[:70]!r}")
            return spec
        except (TypeError, KeyError, ValueError, ZeroDivisionError, OverflowError) as e:
            raise StoreError(f"store.json: expected the fields of a spec: {e}") from e

    def fingerprint(self) -> str:
        """sha256 of all fields in canonical JSON."""
        return _fingerprint(self)


def _check_kinds(fields: dict[str, Any], owner: type) -> None:
    """Raises: TypeError: a value of another type than the field has; KeyError: no such field."""
    if not isinstance(fields, dict):
        raise TypeError(f"expected the fields of {owner.__name__}, got {type(fields).__name__}")
    hints = get_type_hints(owner)
    for name, value in fields.items():
        kind = str if get_args(hints[name]) else hints[name]
        if type(value) is not kind and (kind, type(value)) != (float, int):
            raise TypeError(f"{name}: expected {kind.__name__}, got {type(value).__name__}")
        if isinstance(value, str) and len(value) > MAX_TEXT:
            raise ValueError(f"{name}: expected at most {MAX_TEXT} characters, got {len(value):,}")


@lru_cache(maxsize=16)  # asked for once a shard
def _fingerprint(spec: LabelSpec) -> str:
    return sha256_of(spec.to_json())


def newer_format(version: object) -> StoreError:
    return StoreError(
        f"store format version {version!r}: this softlabels reads version {FORMAT_VERSION}; "
        "`pip install --upgrade softlabels`"
    )
