"""Whether the files are still what was decoded: looked at once, when kept audio is opened.

$XDG_CACHE_HOME/softlabels/heard/<sha256 of root, paths and contents>     (files, 3) int64: size, mtime, inode

A file that is as it was when its content was last known costs one `stat`; any other is read and digested. Recordings of
a bucket are not asked for again: what came from there was held against its digest when it was decoded.
"""

import logging
from pathlib import Path

import numpy as np

from softlabels.audio.root import file_state
from softlabels.digests import sha256_of
from softlabels.errors import SoftLabelsError
from softlabels.kept.kept_file import open_array
from softlabels.sound.decoding import about_clip, check_content
from softlabels.sound.stretches import Stretches
from softlabels.storage.file_cache import user_folder
from softlabels.storage.unfinished import all_or_nothing, save_array
from softlabels.threads import in_threads

logger = logging.getLogger(__name__)
_UNKNOWN = -1


class FilesHeard:
    """The files of some stretches, and how each was when its content was known."""

    def __init__(self, stretches: Stretches) -> None:
        self._root = stretches.sounds.root
        self._paths, self._sha256, self._clip_ids = stretches.paths()
        name = sha256_of([str(self._root), self._paths, self._sha256])
        self._note = user_folder() / "heard" / name

    def states(self) -> np.ndarray | None:
        """(files, 3) how each is now; None: they are in a bucket. Raises: AudioError: missing; EnvironmentTrouble."""
        if not isinstance(self._root, Path):
            return None
        found = np.empty((len(self._paths), 3), np.int64)
        for i, path in enumerate(self._paths):
            with about_clip(self._clip_ids[i], self._root, path):
                size, mtime_ns, _, inode = file_state(self._root, path)
            found[i] = size, mtime_ns, inode % (1 << 63)
        return found

    def check(self, decoded: np.ndarray | None = None) -> None:
        """See that every file is what it was.

        Args:
          decoded: the states from before they were decoded just now; None: nobody has.
        Raises: AudioError: one is missing, or something else now. EnvironmentTrouble.
        """
        now = self.states()
        if now is None:
            return
        noted = self._noted() if decoded is None else decoded
        unknown = np.flatnonzero((now != noted).any(axis=1)) if len(noted) == len(now) else np.arange(len(now))
        for _ in in_threads(self._check_content, ((int(i),) for i in unknown)):
            pass
        if len(unknown) or decoded is not None:
            self._write(now)

    def _check_content(self, i: int) -> None:
        path = self._paths[i]
        with about_clip(self._clip_ids[i], self._root, path):
            check_content(Path(self._root) / path, self._sha256[i])

    def _noted(self) -> np.ndarray:
        try:
            return open_array(self._note, np.int64, 2)
        except SoftLabelsError:
            return np.zeros((0, 3), np.int64)

    def _write(self, states: np.ndarray) -> None:
        try:
            with all_or_nothing(self._note) as temporary:
                save_array(temporary, states)
        except (OSError, SoftLabelsError) as e:
            logger.info("audio: %s: its files will be read again the next time", e)
