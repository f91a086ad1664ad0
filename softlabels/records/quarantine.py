"""The reasons for which a window has no soft label, and the record that says so."""

from dataclasses import dataclass
from typing import Any

# reason -> what it means, for people
REASONS = {
    "missing": "there was no file at the clip's path",
    "outside-root": "the path leads out of the audio root through a link",
    "unreadable": "the file could not be opened or decoded",
    "empty": "the file or the clip has no audio samples",
    "unsupported-container": "not WAV, FLAC, OGG, MP3, M4A, AIFF, CAF, AU or W64, or an extra is missing",
    "bad-rate": "the sample rate is outside the budget",
    "too-many-channels": "the number of channels is outside the budget",
    "too-long": "the file is longer or larger than the budget",
    "truncated": "the file ends before its header says",
    "contradictory": "the file holds more, or other, audio than its own header says",
    "damaged": "a checksum, a number or a place in the file does not fit",
    "outside-file": "start_s or end_s lies beyond the end of the file",
    "digest-mismatch": "the file's sha256 is not the one in the manifest",
    "changed-since-probe": "the file changed between planning and labelling",
    "not-finite-audio": "the window holds NaN or infinite samples",
    "not-finite-teacher": "the teacher answered NaN or infinity",
    "crashed": "the clip alone killed its worker every time, or made the teacher raise, and a control window passed",
    "hung": "the clip alone kept its worker beyond the time limit every time, and a control window passed",
}
MOST_WINDOWS = 1 << 31  # of a store: they are counted in 32 bits
TRANSIENT = frozenset({"missing", "changed-since-probe", "crashed", "hung"})  # tried again by every later run


@dataclass(frozen=True, slots=True, kw_only=True)
class Quarantined:
    """Windows `first_window` to `first_window + windows - 1` of a clip, and why they have no label."""

    clip_id: str
    first_window: int
    windows: int
    reason: str
    detail: str = ""

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> "Quarantined":
        """Raises: ValueError, TypeError: not what a receipt says of a stretch."""
        entry = cls(**fields)
        if not all(type(text) is str for text in (entry.clip_id, entry.reason, entry.detail)):
            raise ValueError("expected clip_id, reason and detail of a quarantined stretch as text")
        if entry.reason not in REASONS:
            raise ValueError(f"expected one of the reasons {', '.join(REASONS)}, got {entry.reason[:40]!r}")
        first, windows = entry.first_window, entry.windows
        if type(first) is not int or type(windows) is not int or first < 0 or not 1 <= windows < MOST_WINDOWS - first:
            raise ValueError(f"quarantined windows: expected 1 or more from 0 on, got {windows!r} from {first!r} on")
        return entry

    @property
    def is_transient(self) -> bool:
        return self.reason in TRANSIENT
