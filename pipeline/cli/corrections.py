"""`softlabels manifest --apply`: what a person marked in a report's page corrects the manifest."""

from argparse import Namespace
from pathlib import Path

from pipeline.drafts.marks import apply_marks
from pipeline.terminal.flags import MANIFEST
from pipeline.terminal.printing import print_results, tell

SHOWN = 10
OF_NEW = "unlabelled", "metadata", "raven", "column", "split", "group", "update", "sha256", "output"


def apply(args: Namespace) -> int:
    """Correct a manifest, and tell what became of which label."""
    given = [f"--{name}" for name in OF_NEW if _was_given(args, name)]
    if given:
        raise ValueError(
            f"--apply: expected none of the flags of a new manifest, got {', '.join(given)}; the manifest comes first"
        )
    manifest = args.folder or Path(MANIFEST)
    done = apply_marks(manifest, args.apply, write=not args.dry_run)
    counts = {"corrected": len(done.changes), "confirmed": done.confirmed, "already": done.already}
    also = {"changes": done.changes, "why_left_alone": done.left_alone}
    print_results(args.json, also, **counts, left_alone=len(done.left_alone), manifest=manifest)
    for clip_id, before, after in done.changes[:SHOWN]:
        tell(f"{clip_id!r}: {before!r} becomes {after!r}")
    if len(done.changes) > SHOWN:
        tell(f"... and {len(done.changes) - SHOWN} more")
    for why in done.left_alone[:SHOWN]:
        tell(f"left alone: {why}")
    if len(done.left_alone) > SHOWN:
        tell(f"left alone: ... and {len(done.left_alone) - SHOWN} more")
    tell(
        "next: the same without --dry-run"
        if args.dry_run
        else "what the teacher said stays valid; next: softlabels report"
    )
    return 1 if done.left_alone else 0


def _was_given(args: Namespace, name: str) -> bool:
    return bool(getattr(args, name) != args.command.get_default(name))
