"""Paths of a manifest that lead nowhere: all of them are a wrong root; a few may be written otherwise than files."""

import logging
from collections.abc import Mapping

from pipeline.planning.probe import FileProbe
from softlabels.audio.lost import hint
from softlabels.errors import ManifestError
from softlabels.records.plan_file import PlannedClip
from softlabels.storage.location import Location
from softlabels.store.reader import StoreReader

SHOWN = 3
logger = logging.getLogger(__name__)


def check_lost(
    probes: Mapping[str, FileProbe], root: Location, *, new: list[PlannedClip], store: StoreReader | None
) -> None:
    """Warn of files that are not there, with what is there instead.

    Args:
      new: clips to plan; store: the one to go on with, None to make one.
    Raises: ManifestError: none of them is there, and something is still to be labelled.
    """
    lost = [path for path, probe in probes.items() if probe.reason == "missing"]
    if not lost:
        return
    hints = [f"'{path}'{hint(root, path)}" for path in sorted(lost)[:SHOWN]]
    if len(lost) == len(probes) and (new or store is None or not store.is_closed()):
        raise ManifestError(
            f"none of the {len(lost):,} files of the manifest is below '{root}', such as {', '.join(hints)}: is --root "
            "right? It is the folder that the manifest's paths are relative to"
        )
    end = ": is --root right? What is labelled stays" if len(lost) == len(probes) else ""
    shown = ", ".join(hints)
    logger.warning("%d of %d files are not below '%s', such as %s%s", len(lost), len(probes), root, shown, end)
