"""Where the files of planned clips are now. A plan keeps the paths of its day; a manifest follows its files."""

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pipeline.planning.probe import FileProbe
from softlabels.corpus.manifest import Clip
from softlabels.records.plan_file import PlannedClip


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """listed: clip_id -> path, of files that are there, as far as they were looked at; known: sha256 -> path."""

    listed: Mapping[str, str]
    known: Mapping[str, str]

    @classmethod
    def of(cls, clips: Iterable[Clip], probes: Mapping[str, FileProbe]) -> "Places":
        """Of a manifest and its files, which were probed unless another run has."""
        gone = {path for path, probe in probes.items() if probe.reason == "missing"}
        return cls(
            listed={clip.clip_id: clip.path for clip in clips if clip.path not in gone},
            known={probe.sha256: path for path, probe in sorted(probes.items(), reverse=True) if probe.sha256},
        )

    def now(self, clips: Iterable[PlannedClip]) -> tuple[PlannedClip, ...]:
        """The clips with the paths of now: where the manifest has them, else where the same bytes are, else as planned.

        No label depends on it: who decodes a file holds it against the digest of the plan.
        """
        return tuple(self._now(clip) for clip in clips)

    def _now(self, clip: PlannedClip) -> PlannedClip:
        path = self.listed.get(clip.clip_id) or self.known.get(clip.sha256) or clip.path
        return clip if path == clip.path else dataclasses.replace(clip, path=path)
