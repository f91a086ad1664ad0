"""What went wrong with a recording: its content, or the machine. Decoders forget the difference, so their bytes come
through here.

libsndfile takes a failed read for the end of the file, and FFmpeg for whatever its demuxer makes of it. `AudioBytes`
does their reading, keeps the first error of the operating system, and gives nothing more from there on, so that no
sample is made of what was not read.
"""

import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from softlabels.audio.tags import recording_span
from softlabels.errors import AudioError, EnvironmentTrouble, SoftLabelsError
from softlabels.os_errors import ABSENT, is_environment
from softlabels.platforms import READ, read_at, read_into

BUFFER_BYTES = 1 << 16  # an MP3 is read in pieces of a frame


def audio_os_error(path: str | Path, e: OSError) -> SoftLabelsError:
    """What an operating system's error about an audio file means: content, or the environment."""
    if is_environment(e):
        return EnvironmentTrouble(f"'{path}': {e.strerror or e}")
    if e.errno in ABSENT:
        return AudioError("missing: no such file")
    return AudioError(f"unreadable: {e.strerror or type(e).__name__}")


@contextmanager
def os_errors_explained(path: str | Path) -> Iterator[None]:
    """Give the operating system's errors about an audio file their meaning. Raises: AudioError, EnvironmentTrouble."""
    try:
        yield
    except OSError as e:
        raise audio_os_error(path, e) from e


class AudioBytes(io.RawIOBase):
    """The bytes of a recording for a decoder, which reads them through `buffered`; remembers what failed.

    size: of the file, without tags around it that its container does not know.

    Only positioned reads are asked of the system, so that there is no seek that could fail unseen.
    """

    def __init__(self, path: str | Path) -> None:
        """Raises: AudioError: missing, unreadable (no file at all); EnvironmentTrouble."""
        self.path, self._position, self._start, self._descriptor = path, 0, 0, -1
        self.error: OSError | None = None
        with os_errors_explained(path):
            mode = os.stat(path).st_mode
            if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):  # a pipe would be waited for
                raise AudioError("unreadable: expected a file, found a pipe, socket or device")
            self._descriptor = descriptor = os.open(path, READ)
            self.size = os.fstat(descriptor).st_size
            if stat.S_ISREG(mode):
                self._start, end = recording_span(lambda count, at: read_at(descriptor, count, at), self.size)
                self.size = end - self._start
        self.buffered = io.BufferedReader(self, BUFFER_BYTES)

    def check(self) -> None:
        """Raises: AudioError, EnvironmentTrouble: a read has failed, whatever the decoder made of it."""
        if self.error is not None:
            raise audio_os_error(self.path, self.error) from self.error

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer, as far as there is something; nothing more once a read has failed."""
        if self.error is not None:
            return 0
        try:
            wanted = memoryview(buffer)[: max(0, self.size - self._position)]
            got = read_into(self._descriptor, wanted, self._start + self._position)
        except OSError as e:
            self.error = e
            return 0
        self._position += got
        return got

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._position = max(0, offset + (0, self._position, self.size)[whence])
        return self._position

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        super().close()


@contextmanager
def decoder_faults(source: AudioBytes, decoder: str) -> Iterator[None]:
    """Give whatever a decoder raises its meaning; what it read, or could not, comes first.

    Raises: AudioError: unreadable; and what `AudioBytes.check` raises, in place of an end that comes too early.
    """
    try:
        yield
        source.check()
    except (SoftLabelsError, MemoryError):
        source.check()
        raise
    except Exception as e:  # PyAV has raised UnicodeDecodeError, soundfile TypeError: a decoder's class tells nothing
        source.check()
        raise AudioError(f"unreadable: {decoder} raised {type(e).__name__}: {e}") from e
