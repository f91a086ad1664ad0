"""From clips and probes to shards: pure and deterministic, whatever the order of the manifest's rows."""

import dataclasses
from collections.abc import Iterable

from pipeline.planning.probe import FileProbe
from softlabels.corpus.manifest import Clip
from softlabels.records.plan_file import PlannedClip
from softlabels.windows import WindowSpec, rescale_samples, seconds_to_samples

END_TOLERANCE_S = 0.1  # an end_s beyond the end of the file by no more than this is rounding, and means the end
MIN_SHARD_WINDOWS, MAX_SHARD_WINDOWS, SHARDS_WANTED = 64, 1024, 256


def lay_out_clip(clip: Clip, probe: FileProbe, window: WindowSpec) -> PlannedClip:
    """One clip planned by itself: all its windows in one shard, 0; one window if it cannot be labelled."""
    reason, detail = probe.reason, probe.detail
    start, end = 0, probe.frames
    if not reason and clip.sha256 and clip.sha256 != probe.sha256:
        reason, detail = "digest-mismatch", f"the manifest says {clip.sha256}, the file is {probe.sha256}"
    if not reason:
        start = seconds_to_samples(clip.start_s, probe.rate_hz)
        end = probe.frames if clip.end_s is None else seconds_to_samples(clip.end_s, probe.rate_hz)
        if start >= probe.frames or end > probe.frames + seconds_to_samples(END_TOLERANCE_S, probe.rate_hz):
            reason, detail = "outside-file", f"{_stretch(clip)}, the file has {probe.frames / probe.rate_hz:g} s"
        end = min(end, probe.frames)
    windows = 1
    if not reason:
        first, after = (rescale_samples(n, from_hz=probe.rate_hz, to_hz=window.rate_hz) for n in (start, end))
        windows = window.count(after - first) or 1
        if after <= first:
            reason, detail = "empty", f"{_stretch(clip)} holds no sample"
    return PlannedClip(
        shard=0,
        clip_id=clip.clip_id,
        first_window=0,
        windows=windows,
        path=clip.path,
        start=start,
        end=end,
        reason=reason,
        detail=detail,
        **{name: getattr(probe, name) for name in ("frames", "rate_hz", "channels", "container", "size", "sha256")},
    )


def pack_shards(clips: Iterable[PlannedClip], *, shard_windows: int, first_shard: int) -> list[PlannedClip]:
    """Put clips that are planned by themselves, sorted by clip_id, into shards of at most `shard_windows` windows.

    A clip goes undivided into the current shard or the next; one longer than a shard is split over shards of
    its own, so that no file is decoded more often than it has to be.
    """
    packed: list[PlannedClip] = []
    shard, room = first_shard - 1, 0
    for clip in sorted(clips, key=lambda clip: clip.clip_id):
        for first in range(0, clip.windows, shard_windows):
            windows = min(shard_windows, clip.windows - first)
            if windows > room:
                shard, room = shard + 1, shard_windows
            room -= windows
            packed.append(dataclasses.replace(clip, shard=shard, first_window=first, windows=windows))
    return packed


def default_shard_windows(windows: int) -> int:
    """Windows a shard for a new store: a power of two that gives a small corpus enough shards to share out
    and to show progress by, and a large one files of about 10 MB."""
    size = MIN_SHARD_WINDOWS
    while size < MAX_SHARD_WINDOWS and size * SHARDS_WANTED < windows:
        size *= 2
    return size


def _stretch(clip: Clip) -> str:
    return f"{clip.start_s:g} s to {'the end' if clip.end_s is None else f'{clip.end_s:g} s'}"
