"""Tags around a recording that its container does not know: with them libsndfile counts from a wrong byte, or fails."""

from collections.abc import Callable

from softlabels.audio.containers.container import container_of
from softlabels.audio.containers.mpeg import id3_bytes

ID3V1 = 128  # bytes, at the end


def recording_span(read: Callable[[int, int], bytes], size: int) -> tuple[int, int]:
    """First byte of the recording, and the one after its last.

    Before it is an ID3 tag or more, unless what follows is MP3, of which it is a part; after a FLAC, the old ID3 tag.

    Args:
      read: (bytes, position) -> so many bytes from there, as `os.pread` does it.
      size: of the file, in bytes.
    """
    head, start = read(12, 0), 0
    while head[:3] == b"ID3" and len(head) >= 10:
        start += id3_bytes(head)
        head = read(12, start)
    if start and container_of(head) in (None, "mp3-through"):
        return 0, size
    has_tag = head[:4] == b"fLaC" and size - start > ID3V1 and read(3, size - ID3V1) == b"TAG"
    return start, size - ID3V1 if has_tag else size
