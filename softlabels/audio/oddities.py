"""What is odd about the samples of a stretch, though it can be labelled: channels that cancel, samples beyond -1 to 1.

The mean of the channels says whether to look at all, so an ordinary recording costs its peak and nothing else.
"""

from pathlib import Path

from softlabels.audio.decode import AudioInfo, channel_peak, enters_at
from softlabels.windows import rescale_samples

QUIET = 1e-4  # of full scale: a recorder's own noise is louder
CANCELLED = 100  # times a channel is louder than the mean of all
LOOK_S = 120  # from its start, of a file that cannot be entered in the middle
LOSSY = frozenset({"ogg", "mp3", "mp3-through", "m4a"})  # their decoders overshoot: a little beyond 1 is usual


def sample_note(path: str | Path, info: AudioInfo, *, rate_hz: int, start: int, stop: int, peak: float) -> str:
    """What is odd about the samples of a stretch; "" for most.

    Args:
      info: the file, as it was probed.
      start, stop: the stretch, in samples at `rate_hz` from the start of the file.
      peak: the largest absolute sample of it, mono, as the teacher got it.
    """
    is_quiet, is_loud = peak <= QUIET and info.channels > 1, peak > 1 and info.container not in LOSSY
    first, end = (rescale_samples(n, from_hz=rate_hz, to_hz=info.rate_hz) for n in (start, stop))
    reachable = end <= LOOK_S * info.rate_hz or enters_at(path, info, info.rate_hz)
    if not (is_quiet or is_loud) or not reachable:
        return ""
    channel = channel_peak(path, info, first, min(end, info.frames))
    if is_quiet and channel > max(QUIET, CANCELLED * peak):
        return f"its channels cancel each other: one reaches {channel:.2g}, their mean only {peak:.2g} of full scale"
    if is_loud and channel > 1:  # else it is the resampler that overshoots
        return f"its samples reach {channel:.4g}, expected -1 to 1; scale them"
    return ""
