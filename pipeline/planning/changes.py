"""What a manifest asks of a store: clips that are new to it, and those that are no longer what they were."""

from softlabels.audio.decode import audio_sha256
from softlabels.audio.root import local_file
from softlabels.errors import AudioError, EnvironmentTrouble, StoreError
from softlabels.records.plan_file import PlannedClip, clip_differences, same_clip
from softlabels.records.quarantine import TRANSIENT
from softlabels.storage.location import Location
from softlabels.store.reader import StoreReader
from softlabels.tables import SHOWN

_OF_NO_CONTENT = {*TRANSIENT, "outside-root"}  # such a reason says nothing of what is in a file


def new_clips(laid_out: list[PlannedClip], existing: StoreReader | None, root: Location) -> list[PlannedClip]:
    """The clips that no plan has yet, or that have no label and are not as they were planned.

    Args:
      laid_out: the manifest's clips as their files are now, below `root`.
    Raises: StoreError: a labelled clip is another one now: its file, its stretch, or the sha256 it has to have.
    """
    if existing is None:
        return laid_out
    planned, labelled = existing.planned_by_clip(), existing.labelled_clips()
    new: list[PlannedClip] = []
    changed: dict[str, str] = {}
    for clip in laid_out:
        before = planned.get(clip.clip_id)
        if before is None or before.reason:
            if before is None or clip.reason not in {before.reason, *TRANSIENT}:
                new.append(clip)
        elif (clip.reason or not same_clip(before, clip)) and (what := _difference(before, clip, root)):
            if clip.clip_id in labelled:
                changed[clip.clip_id] = what
            else:
                new.append(clip)
    if changed:
        listed = ", ".join(f"{clip_id!r} ({what})" for clip_id, what in list(changed.items())[:SHOWN])
        raise StoreError(
            f"store '{existing.storage}': the audio, start_s, end_s or sha256 of {len(changed)} labelled clips has "
            f"changed: {listed}; restore what was labelled, take the rows out of the manifest, give them new clip_ids, "
            "or label into another store with -o"
        )
    return new


def _difference(before: PlannedClip, clip: PlannedClip, root: Location) -> str:
    """What is another thing than when a clip was planned, in words; "" if nothing is.

    A file that cannot be probed now may be the one that was labelled: of another budget, or without an extra.
    """
    if clip.reason in _OF_NO_CONTENT:
        return ""
    sha256 = clip.sha256 or _sha256_now(root, before, clip.path)
    if sha256 != before.sha256:
        now = f"is sha256:{sha256}" if sha256 else "can be read no more"
        why = f", {clip.reason}: {clip.detail}" if clip.reason else ""
        return f"'{clip.path}' was sha256:{before.sha256}, {now}{why}"
    if clip.reason:
        return f"{clip.reason}: {clip.detail}" if clip.sha256 else ""
    return ", ".join(name for name, differs in clip_differences(before, clip).items() if differs)


def _sha256_now(root: Location, before: PlannedClip, path: str) -> str:
    """Of a file that could not be probed: "" where it is no file any more, as before where nobody can say."""
    try:
        with local_file(root, path) as file:
            return audio_sha256(file)
    except AudioError as e:
        return "" if e.reason == "unreadable" else before.sha256
    except EnvironmentTrouble:
        return before.sha256
