"""label_shard(): one planned shard -> its rows. A pure function of plan, spec, audio and teacher."""

import dataclasses
import hashlib
import itertools
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import numpy as np

from pipeline.teachers.scoring import score, score_with_embedding, wide_probabilities
from pipeline.teachers.teacher import Teacher, embedding_width
from softlabels.audio.decode import AudioInfo, Container, audio_sha256, stream_audio
from softlabels.audio.oddities import sample_note
from softlabels.audio.root import check_root, local_file
from softlabels.audio.tape import TapeDeck
from softlabels.errors import AudioError, EnvironmentTrouble
from softlabels.records.plan_file import PlannedClip, window_times
from softlabels.records.quarantine import Quarantined
from softlabels.records.shard import ShardRows
from softlabels.storage.location import Location
from softlabels.store.components import Components
from softlabels.threads import read_ahead
from softlabels.windows import WindowSpec, cut_windows

JITTER_S = 0.05  # BirdNET's answer changes with a shift of one sample; beyond 50 ms it is another window
READ_AHEAD = 16  # windows, or a batch, that are read, decoded and cut while the teacher is at work
LOST_FILES, LOST_SHARE = 10, 0.2  # so many of a shard's files missing, and such a share of them, is a lost mount
_deck = TapeDeck()  # of this process: its next shard is often of the same long file
Key = tuple[PlannedClip, int]  # a clip and the index of one of its windows
Window = tuple[Key, np.ndarray]  # and (window_samples,) float32


@dataclass(frozen=True, slots=True)
class Digests:
    """sha256 of a clip's file, and of the samples that were cut into windows; and what is odd about those."""

    clip_id: str
    file: str
    pcm: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Findings:
    """What labelling a shard brings to light beside its rows.

    audio: clip_id -> {"file": sha256 of the file, "pcm": sha256 of the samples that the teacher scored}, and "note"
      where something is odd about it.
    """

    quarantined: list[Quarantined] = field(default_factory=list)
    audio: dict[str, dict[str, str]] = field(default_factory=dict)

    def take_out(self, found: Iterable[Window | Quarantined | Digests]) -> Iterator[Window]:
        """Keep what is no window, and hand on the windows."""
        for each in found:
            if isinstance(each, Quarantined):
                self.quarantined.append(each)
            elif isinstance(each, Digests):
                self.audio[each.clip_id] = {"file": each.file, "pcm": each.pcm}
                if each.note:
                    self.audio[each.clip_id]["note"] = each.note
            else:
                yield each


def label_shard(
    clips: list[PlannedClip],
    teacher: Teacher,
    window: WindowSpec,
    root: Location,
    *,
    jitters: int = 1,
    embedded: bool = False,
) -> tuple[ShardRows, Findings]:
    """Score every window of a shard; each ends as a row or in quarantine.

    Args:
      jitters: score each window at so many fixed shifts, and keep the mean probability, and the mean embedding.
      embedded: keep the teacher's embedding of each window.
    Raises: EnvironmentTrouble: the audio root is gone, or so many files that a mount must be.
    """
    check_root(root)
    findings, shifts = Findings(), jitter_shifts(jitters, window.rate_hz)
    windows = findings.take_out(
        read_ahead(_windows(clips, window, shifts, root), depth=max(READ_AHEAD, teacher.batch_size))
    )
    scored = _mean_of_shifts(_scored(windows, teacher, embedded), len(shifts))
    rounded = [(key, row.astype(np.float32)) for key, row in scored]  # the only rounding
    _check_mount(clips, findings, root)
    # Windows of a clip that failed halfway are quarantined with the rest of it.
    failed = {(entry.clip_id, entry.first_window + i) for entry in findings.quarantined for i in range(entry.windows)}
    kept = [(key, row) for key, row in rounded if (key[0].clip_id, key[1]) not in failed]
    classes = len(teacher.classes)
    finite = [np.isfinite(row[:classes]).all() for _, row in kept]
    findings.quarantined.extend(
        _quarantined(clip, "not-finite-teacher", "NaN or infinite scores", window=index)
        for ((clip, index), _), fine in zip(kept, finite, strict=True)
        if not fine
    )
    findings.quarantined.sort(key=lambda entry: (entry.clip_id, entry.first_window))
    good = list(itertools.compress(kept, finite))
    width = classes + (embedding_width(teacher) if embedded else 0)
    values = np.stack([row for _, row in good]) if good else np.zeros((0, width), np.float32)
    rows = _rows([key for key, _ in good], np.ascontiguousarray(values[:, :classes]), window)
    return (dataclasses.replace(rows, embedding=values[:, classes:]) if embedded else rows), findings


def _quarantined(clip: PlannedClip, reason: str, detail: str, *, window: int | None = None) -> Quarantined:
    """One window of a clip, or all that are planned."""
    first, windows = (clip.first_window, clip.windows) if window is None else (window, 1)
    return Quarantined(clip_id=clip.clip_id, first_window=first, windows=windows, reason=reason, detail=detail)


def keep_classes(rows: ShardRows, kept: np.ndarray, components: Components | None = None) -> ShardRows:
    """Only some classes, (kept,) positions, the sum over the others, and components of all of them: none of it is added
    up differently by any machine."""
    dropped = np.setdiff1d(np.arange(rows.probabilities.shape[1]), kept)
    sums = [math.fsum(row) for row in rows.probabilities[:, dropped].astype(np.float64)]
    return dataclasses.replace(
        rows,
        probabilities=rows.probabilities[:, kept],
        dropped_sum=np.array(sums, np.float32),
        components=None if components is None else components.project(rows.probabilities),
    )


def jitter_shifts(jitters: int, rate_hz: int) -> list[int]:
    """(jitters,) samples: the middles of as many equal parts of -50 to 50 ms, so that one is 0."""
    return [round((2 * j + 1 - jitters) / jitters * JITTER_S * rate_hz) for j in range(jitters)]


def _scored(windows: Iterable[Window], teacher: Teacher, embedded: bool) -> Iterator[tuple[Key, np.ndarray]]:
    """Every window's probabilities, ((clip, window_index), (classes,) float64); all NaN where a score is not finite.

    embedded: its embedding follows them, (classes + embedding_width,).
    """
    for keys, batch in _batches(windows, teacher):
        answer, embeddings = score_with_embedding(teacher, batch) if embedded else (score(teacher, batch), None)
        scores = answer[: len(keys)]  # (keys, classes)
        wide = wide_probabilities(scores, teacher.activation) if teacher.outputs == "logits" else scores.astype(float)
        wide[~np.isfinite(scores).all(axis=1)] = np.nan  # an infinite score would become a certain 0 or 1
        if embeddings is not None:
            wide = np.concatenate([wide, embeddings[: len(keys)]], axis=1)
        yield from zip(keys, wide, strict=True)


def _mean_of_shifts(scored: Iterator[tuple[Key, np.ndarray]], shifts: int) -> Iterator[tuple[Key, np.ndarray]]:
    """The mean over the shifts of each window, which follow each other."""
    for key, total in scored:
        for _ in range(shifts - 1):
            total = total + next(scored)[1]
        yield key, total / shifts


def _check_mount(clips: list[PlannedClip], findings: Findings, root: Location) -> None:
    """Files that were there when the plan was made do not vanish by the dozen."""
    gone = {entry.clip_id for entry in findings.quarantined if entry.reason == "missing"}
    gone -= {clip.clip_id for clip in clips if clip.reason}
    if len(gone) >= LOST_FILES and len(gone) >= LOST_SHARE * len({clip.clip_id for clip in clips}):
        raise EnvironmentTrouble(f"{len(gone)} files below '{root}' are gone since they were probed: a lost mount?")


def _windows(
    clips: list[PlannedClip], window: WindowSpec, shifts: list[int], root: Location
) -> Iterator[Window | Quarantined | Digests]:
    """Every window that can be read, at every shift; what cannot be; and after each clip its digests."""
    for clip in clips:
        if clip.reason:
            yield _quarantined(clip, clip.reason, clip.detail)
            continue
        try:
            with local_file(root, clip.path, sha256=clip.sha256) as file:
                digest = audio_sha256(file, known=True)
                if digest != clip.sha256:
                    raise AudioError(f"changed-since-probe: sha256 was {clip.sha256}, is {digest}")
                yield from _clip_windows(clip, window, shifts, file)
        except AudioError as e:
            yield _quarantined(clip, e.reason, e.detail)


def _clip_windows(
    clip: PlannedClip, window: WindowSpec, shifts: list[int], file: Path
) -> Iterator[Window | Quarantined | Digests]:
    """The audio is decoded once, cut with a margin for the shifts; before and after the clip there is silence."""
    margin = max(shifts)
    wide = dataclasses.replace(window, window_samples=window.window_samples + 2 * margin)
    clip_start, clip_end = clip.span(window.rate_hz)
    first = clip_start + clip.first_window * window.hop_samples - margin
    start = max(clip_start, first)
    stop = min(clip_end, first + (clip.windows - 1) * window.hop_samples + wide.window_samples)
    container = cast(Container, clip.container)  # a plan holds texts
    info = AudioInfo(container=container, frames=clip.frames, rate_hz=clip.rate_hz, channels=clip.channels)
    heard = _Heard()
    audio = stream_audio(file, rate_hz=window.rate_hz, start=start, stop=stop, expected=info, deck=_deck)
    blocks = itertools.chain([np.zeros(start - first, np.float32)], heard.passing(audio))
    for index, samples in enumerate(cut_windows(blocks, wide, clip.windows), start=clip.first_window):
        if np.isfinite(samples).all():
            for shift in shifts:
                yield (clip, index), samples[margin + shift :][: window.window_samples]
        else:
            yield _quarantined(clip, "not-finite-audio", "NaN or infinite samples", window=index)
    note = sample_note(file, info, rate_hz=window.rate_hz, start=start, stop=stop, peak=heard.peak)
    yield Digests(clip.clip_id, clip.sha256, heard.digest.hexdigest(), note)


class _Heard:
    """What passed: the digest of all samples, and the largest."""

    def __init__(self) -> None:
        self.digest, self.peak = hashlib.sha256(), 0.0

    def passing(self, blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        for block in blocks:
            self.digest.update(np.ascontiguousarray(block).data)
            self.peak = max(self.peak, float(block.max(initial=0)), -float(block.min(initial=0)))
            yield block


def _batches(windows: Iterable[Window], teacher: Teacher) -> Iterator[tuple[list[Key], np.ndarray]]:
    """Keys and (batch_size, window_samples); the last batch is padded with silence, because shape changes bits."""
    keys: list[Key] = []
    batch = np.zeros((teacher.batch_size, teacher.window_samples), np.float32)
    for key, samples in windows:
        batch[len(keys)] = samples
        keys.append(key)
        if len(keys) == teacher.batch_size:
            yield keys, batch
            keys = []
    if keys:
        batch[len(keys) :] = 0
        yield keys, batch


def _rows(keys: list[Key], probabilities: np.ndarray, window: WindowSpec) -> ShardRows:
    index = np.array([index for _, index in keys], np.int64)
    start_s, end_s, pad_fraction = window_times((clip for clip, _ in keys), index, window)
    return ShardRows(
        clip_id=np.array([clip.clip_id for clip, _ in keys], object),
        window_index=index.astype(np.int32),
        start_s=start_s,
        end_s=end_s,
        pad_fraction=pad_fraction,
        probabilities=probabilities,
    )
