"""`softlabels manifest`: writing a new manifest, and bringing one up to date with its folder."""

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from pipeline.drafts.folder import FoundClips, with_digests
from pipeline.drafts.groups import GROUP
from pipeline.drafts.manifest import ManifestSource
from pipeline.drafts.manifest_text import ManifestText
from pipeline.drafts.split import parse_shares
from pipeline.drafts.update import NewClips, updated
from pipeline.terminal.printing import print_results, progress, tell
from softlabels.corpus.label_cell import BACKGROUND
from softlabels.corpus.manifest import Clip, write_manifest

NAMED = 5  # clips that are named


def new_manifest(args: Namespace, source: ManifestSource) -> FoundClips:
    """Write a manifest; what is told of its source."""
    found = source.read(split=args.split, seed=args.seed, group=args.group)
    clips = found.clips
    if args.sha256 and not args.dry_run:
        clips = _digested(clips, source.root, args.jobs)
    if not args.dry_run:
        write_manifest(clips, args.output)
    classes = {name for clip in clips for name in clip.labels or () if name.casefold() not in BACKGROUND}
    also = {"remarks": found.remarks, "problems": found.problems}
    print_results(args.json, also, clips=len(clips), classes=len(classes), **_place(args))
    return found


def updated_manifest(args: Namespace, source: ManifestSource) -> FoundClips:
    """Add new files to a manifest and drop those that are gone; what is told of its source, and of the rows."""
    text = ManifestText.read(args.output)
    own = args.group in text.columns
    found = source.read(group=None if own and not source.metadata else args.group)
    wanted = args.sha256 or any(clip.sha256 for clip in text.clips)
    clips = NewClips(
        found=found.clips,
        root=source.root,
        prefix=source.prefix,
        shares=parse_shares(args.split) if args.split else {},
        seed=args.seed,
        group=args.group if own else GROUP,
        digests=lambda clips: _digested(clips, source.root, args.jobs) if wanted and clips else clips,
    )
    done = updated(text, clips)
    if not args.dry_run and done.text is not text:
        done.text.write()
    counts = {"added": len(done.added), "dropped": len(done.dropped), "moved": len(done.moved), "kept": done.kept}
    told = FoundClips(clips=found.clips, remarks=(*done.remarks, *found.remarks), problems=found.problems)
    print_results(args.json, {"remarks": told.remarks, "problems": told.problems}, **counts, **_place(args))
    for what, rows in (("added", done.added), ("dropped", done.dropped), ("moved", done.moved)):
        if rows:
            tell(f"{what}: {', '.join(clip.clip_id for clip in rows[:NAMED])}{', ...' if len(rows) > NAMED else ''}")
    return told


def _place(args: Namespace) -> dict[str, Path]:
    return {"not_written" if args.dry_run else "written": args.output}


def _digested(clips: Sequence[Clip], root: Path, jobs: int) -> list[Clip]:
    with progress(len({clip.path for clip in clips}), "files") as on_files:
        return with_digests(clips, root, jobs=jobs, on_files=on_files)
