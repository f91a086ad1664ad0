"""Which samples of which files are kept, and where in the array: the blocks of each file that some clip needs.

file    |....|####|####|....|....|####|     blocks of 4,096 samples from its start, at the student's rate
array        |####|####|          |####|    those in which a clip with rows lies, file after file

A file is one by its content: clips that share it share its samples, and so do copies of it.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from softlabels.audio.decode import AudioInfo
from softlabels.digests import canonical_json
from softlabels.errors import AudioError
from softlabels.ragged import offsets_of
from softlabels.sound.samples import BLOCK
from softlabels.storage.location import Location
from softlabels.windows import WindowSpec, rescale_samples

_FAR = 1 << 40  # blocks: no file is so long, so that file and block are one number
_CONTENT = ("sha256", "container", "frames", "rate_hz", "channels")  # what decides a file's samples


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RowSounds:
    """Where the sound of rows is.

    clips: the clips, as planned; clip_row, window_index: (rows,) of each row. window: the teacher's grid; root: below
    which the files are; folder: where arrays of these labels are kept.
    """

    clips: pa.Table
    clip_row: np.ndarray
    window_index: np.ndarray
    window: WindowSpec
    root: Location
    folder: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class FileSound:
    """A file to decode. runs: (first block, the one after the last, row of the array) each; end: its last sample."""

    clip_id: str
    path: str
    sha256: str
    audio: AudioInfo
    runs: tuple[tuple[int, int, int], ...]
    end: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Stretches:
    """Where each clip lies in its file and in the array; (clips,) int64 each, samples at `rate_hz`.

    first, end: in the file, as long as the clip is; shift: from there to the array, laid out flat; -1 of clips that
    have no sound or no rows. blocks: rows of the array. digest: of what is kept, whoever needs it.
    """

    rate_hz: int
    first: np.ndarray
    end: np.ndarray
    shift: np.ndarray
    has_sound: np.ndarray
    blocks: int
    digest: str
    _sounds: RowSounds
    _clip: np.ndarray  # (files,) one of each
    _run_file: np.ndarray
    _runs: np.ndarray  # (runs, 3) first block, the one after the last, row of the array

    @classmethod
    def of(cls, sounds: RowSounds, rate_hz: int) -> "Stretches":
        clips = sounds.clips
        numbers = {name: clips[name].to_numpy() for name in ("start", "end", "rate_hz")}
        own_hz = np.maximum(numbers["rate_hz"], 1)
        used = np.bincount(np.asarray(sounds.clip_row), minlength=len(clips)) > 0
        used &= pc.equal(clips["reason"], "").to_numpy(zero_copy_only=False)
        # Window 0 is rounded at the teacher's rate first, so that it may begin a sample before the clip.
        teachers = sounds.window.starts(numbers["start"], own_hz, 0)
        window_0 = rescale_samples(teachers, from_hz=sounds.window.rate_hz, to_hz=rate_hz)
        first = np.minimum(rescale_samples(numbers["start"], from_hz=own_hz, to_hz=rate_hz), window_0)
        end = np.maximum(rescale_samples(numbers["end"], from_hz=own_hz, to_hz=rate_hz), first)
        of_clip = np.flatnonzero(used)
        keys, clip_of_file, file = _files(clips, of_clip)
        run_of, run_file, runs = _runs_of(file, first[of_clip] // BLOCK, -(-end[of_clip] // BLOCK))
        shift = np.full(len(clips), -1)
        shift[of_clip] = (runs[run_of, 2] - runs[run_of, 0]) * BLOCK
        digest = hashlib.sha256("\n".join(keys).encode())
        digest.update(np.column_stack([run_file, runs]).astype("<i8").tobytes())
        return cls(
            rate_hz=rate_hz,
            first=first,
            end=end,
            shift=shift,
            has_sound=used,
            blocks=int((runs[:, 1] - runs[:, 0]).sum()),
            digest=digest.hexdigest(),
            _sounds=sounds,
            _clip=clip_of_file,
            _run_file=run_file,
            _runs=runs,
        )

    @property
    def sounds(self) -> RowSounds:
        return self._sounds

    def starts_of(self, rows: np.ndarray) -> np.ndarray:
        """(n,) rows -> (n,) int64: where the window of each begins in its file, at `rate_hz`."""
        clips, window, clip = self._sounds.clips, self._sounds.window, self._sounds.clip_row[rows]
        start, own_hz = (clips[name].to_numpy()[clip] for name in ("start", "rate_hz"))
        teachers = window.starts(start, own_hz, self._sounds.window_index[rows])
        return np.asarray(rescale_samples(teachers, from_hz=window.rate_hz, to_hz=self.rate_hz))

    def place(self, rows: np.ndarray, starts: np.ndarray | None, samples: int) -> tuple[np.ndarray, np.ndarray]:
        """(n,) each: the first sample of each row in the array laid out flat, and how many follow until its clip ends.

        Args:
          starts: (n,) in the files; None: where the rows' windows begin. samples: at most so many follow.
        Raises: AudioError: a row of a clip that was never heard. ValueError: a start before its clip.
        """
        clip = self._sounds.clip_row[rows]
        starts = self.starts_of(rows) if starts is None else np.asarray(starts, np.int64)
        wrong = np.flatnonzero(~self.has_sound[clip] | (starts < self.first[clip]))
        if len(wrong):
            raise self._refused(int(clip[wrong[0]]), int(starts[wrong[0]]))
        first, end = np.minimum(starts, self.end[clip]), self.end[clip]
        return first + self.shift[clip], np.minimum(samples, end - first)

    def _refused(self, clip: int, start: int) -> Exception:
        clip_id = self._sounds.clips["clip_id"][clip].as_py()
        if not self.has_sound[clip]:
            return AudioError(f"missing: clip {clip_id!r} was never heard by the teacher; join with missing='drop'")
        return ValueError(f"starts: expected samples of clip {clip_id!r}, from {self.first[clip]} on, got {start}")

    def files(self) -> Iterator[FileSound]:
        """The files, in the order of the array."""
        names = ["clip_id", "path", *_CONTENT]
        table = self._sounds.clips.select(names)
        begin = offsets_of(np.bincount(self._run_file, minlength=len(self._clip)))
        for batch_first in range(0, len(self._clip), 4096):
            some = self._clip[batch_first : batch_first + 4096]
            for number, clip in enumerate(table.take(some).to_pylist(), batch_first):
                audio = AudioInfo(**{name: clip[name] for name in _CONTENT[1:]})
                runs = self._runs[begin[number] : begin[number + 1]]
                yield FileSound(
                    clip_id=clip["clip_id"],
                    path=clip["path"],
                    sha256=clip["sha256"],
                    audio=audio,
                    runs=tuple(map(tuple, runs.tolist())),
                    end=rescale_samples(audio.frames, from_hz=audio.rate_hz, to_hz=self.rate_hz),
                )

    def containers(self) -> set[str]:
        """Of the files that are kept."""
        return set(pc.unique(self._sounds.clips["container"].filter(pa.array(self.has_sound))).to_pylist())

    def paths(self) -> tuple[list[str], list[str], list[str]]:
        """Every path of a file that is kept, its sha256, and a clip of it; paths ascend."""
        table = self._sounds.clips.select(["path", "sha256", "clip_id"]).filter(pa.array(self.has_sound))
        path, once, _ = _distinct(table["path"])
        rest = table.take(once)
        return path, rest["sha256"].to_pylist(), rest["clip_id"].to_pylist()


def _files(clips: pa.Table, of_clip: np.ndarray) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Of some clips' files what each is, ascending; (files,) a clip of each; (n,) the file of each clip."""
    some = clips.select(_CONTENT).take(of_clip)
    joined = pc.binary_join_element_wise(*(some[name].cast(pa.string()) for name in _CONTENT), "|")
    keys, once, file = _distinct(joined)
    return keys, of_clip[once], file


def _distinct(texts: pa.ChunkedArray) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Different texts, ascending; where each stands first; (n,) which of them each is."""
    encoded = texts.combine_chunks().dictionary_encode()
    indices = encoded.indices.to_numpy()
    once = np.unique(indices, return_index=True)[1]  # they are numbered as they come
    order = pc.sort_indices(encoded.dictionary).to_numpy().astype(np.int64)
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    return encoded.dictionary.take(order).to_pylist(), once[order], rank[indices]


def _runs_of(file: np.ndarray, first: np.ndarray, end: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Merge blocks that clips need into runs.

    Args:
      file, first, end: (n,) of each clip: its file, its first block, the one after its last.
    Returns: (n,) the run of each clip; (runs,) the file of each; (runs, 3) its first block, the one after its last, and
      the row of the array where it begins.
    """
    begin, stop = file * _FAR + first, file * _FAR + end
    order = np.argsort(begin, kind="stable")
    reach = np.maximum.accumulate(stop[order])  # a later file lies beyond all of an earlier one
    is_new = np.append(True, begin[order][1:] > reach[:-1])[: len(order)]
    heads = np.flatnonzero(is_new)
    run_of = np.empty(len(order), np.int64)
    run_of[order] = np.cumsum(is_new) - 1
    run_begin = begin[order][heads]
    run_stop = reach[np.append(heads[1:], len(order))[: len(heads)] - 1]
    run_file = run_begin // _FAR
    rows = offsets_of(run_stop - run_begin)[:-1]
    return run_of, run_file, np.column_stack([run_begin - run_file * _FAR, run_stop - run_file * _FAR, rows])


def settings_of(stretches: Stretches, **settings: object) -> str:
    """The digest of an array: of what is kept, and how."""
    noted = canonical_json({"rate_hz": stretches.rate_hz, "block": BLOCK, "stretches": stretches.digest, **settings})
    return hashlib.sha256(noted).hexdigest()
