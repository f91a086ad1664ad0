"""What a file's own structure says of its samples, in one shape for all containers; and when that is no contradiction.

Decoders do not ask: they read a file cut in half as a shorter one, and a header that lies as the truth.
"""

from dataclasses import dataclass
from typing import BinaryIO

from softlabels.errors import AudioError

PLACEHOLDERS = (0x7FFFF000, 0x7FFFFFFF, 0x80000000, 0xFFFFF000, 0xFFFFFFFF)  # sizes of writers that cannot go back
CARD_BLOCK, SECTOR = 4096, 512
HUGE = 1 << 62  # no file is as long: a placeholder of 64 bits
HINT = "write it again with `ffmpeg -i IN -c:a flac OUT.flac` (for a WAV: `ffmpeg -ignore_length 1 -i IN ...`)"


Block = tuple[int, int]  # bytes and frames of the smallest piece that can be decoded; (0, 0): of no fixed size


@dataclass(frozen=True, slots=True, kw_only=True)
class Structure:
    """What a file holds, as its structure says.

    fewest, most: frames (samples per channel) that a decoder must read; None where only decoding tells.
    note: what is odd about the file but harmless.
    """

    fewest: int | None = None
    most: int | None = None
    note: str = ""

    def is_exactly(self, frames: int) -> bool:
        """Whether it says that there are so many frames, no more and no fewer."""
        return self.fewest == self.most == frames

    def check(self, frames: int) -> None:
        """Hold it against the frames that the decoder reads. Raises: AudioError: contradictory, truncated."""
        if self.fewest is None or self.most is None or self.fewest <= frames <= self.most:
            return
        expected = f"{self.fewest}" if self.fewest == self.most else f"{self.fewest} or more"
        raise AudioError(f"contradictory: the file holds {expected} frames, its decoder reads {frames}; {HINT}")


def exactly(frames: int, note: str = "") -> Structure:
    """The structure of a file that holds so many frames."""
    return Structure(fewest=frames, most=frames, note=note)


def truncated(promised: int, there: int, unit: str) -> AudioError:
    """The error for a file that ends too early."""
    return AudioError(f"truncated: the header promises {promised} {unit}, {there} are there")


def damaged(what: str) -> AudioError:
    """The error for a file whose own checksums or order do not hold."""
    return AudioError(f"damaged: {what}")


def is_padding(file: BinaryIO, position: int, end: int) -> bool:
    """Whether there is a byte of zeros, or zeros to the end of a block of a card: no more, for silence is sound."""
    file.seek(position)
    length = end - position
    return (length == 1 or (length < CARD_BLOCK and end % SECTOR == 0)) and not any(file.read(length))


def samples_of_chunk(*, promised: int, start: int, end: int, block: Block, fits: bool) -> Structure:
    """What a chunk of samples holds, whatever its size field says.

    Args:
      promised: bytes, as its size field says.
      start: where its samples begin; end: where the file ends.
      block: the smallest piece that can be decoded.
      fits: whether what follows it is what may follow it.
    Raises: AudioError: truncated; contradictory: the file holds more.
    """
    rest, note = end - start, ""
    unit, frames, name = (*block, "frames") if block[0] else (1, 1, "bytes")
    if promised > rest:
        headers = (0, 8, 36, 44, start, start - 8)
        if promised >= HUGE or any(placeholder - promised in headers for placeholder in PLACEHOLDERS):
            note = f"its header promises {promised} bytes, as writers of streams do, {rest} are there"
        elif promised // unit <= rest // unit:
            note = f"its header promises {promised} bytes, {rest} are there: no whole frame is missing"
        elif promised - rest in headers:
            note = f"its header promises {promised} bytes, which counts the header, {rest} are there"
        else:
            raise truncated(promised // unit * frames, rest // unit * frames, name)
        promised = rest
    elif promised == 0 and not fits:
        note, promised = f"its header promises 0 bytes, {rest} are there", rest
    elif rest // unit > promised // unit and (not fits or (unit > 1 and (promised + 1) % unit == 0)):
        more = f"the header promises {promised // unit * frames} {name}, the file has {rest // unit * frames}"
        raise AudioError(f"contradictory: {more}; {HINT}")
    if not block[0]:
        return Structure(fewest=min(promised, 1), most=HUGE, note=note)
    most = promised // unit
    if frames > 1:  # a codec's last block may be cut short, or be nothing but the byte that makes a chunk even
        most = -(-min(promised + promised % 2, rest) // unit)
    return Structure(fewest=promised // unit * frames, most=most * frames, note=note)
