"""Looking at stores: `softlabels inspect`, `verify`, `regenerate` and `compare`."""

import contextlib
import dataclasses
import sys
from argparse import ArgumentParser, Namespace
from collections import Counter
from typing import Any

from pipeline.checking.compare import Comparison, compare
from pipeline.checking.regenerate import regenerate
from pipeline.checking.verify import verify
from pipeline.teachers.teacher import TeacherChoice
from pipeline.terminal.flags import Described, add_command, add_flags, filled
from pipeline.terminal.printing import named, print_json, print_line, print_results, progress, tell
from softlabels.records.spec import LabelSpec
from softlabels.soft_label_store import open as open_store
from softlabels.store.reader import StoreReader
from softlabels.tables import SHOWN, some
from softlabels.windows import WindowSpec

WHERE: Described = {  # what verify and regenerate have in common
    "root": {"metavar": "DIR|URL", "help": "where the audio is, default where your own run on this store found it"},
    "manifest": {"metavar": "CSV", "help": "where each clip's file is now, default that of your own run on this store"},
    "jobs": {"metavar": "N", "help": "default one a core"},
}
TEACHER: Described = {  # the fields of a choice that a store does not know, or is not to be believed
    "kind": {"flags": "--teacher", "metavar": "NAME", "help": "as in run; default as in your own run on this store"},
    "model": {"metavar": "PATH", "help": "where the model is, default where your own run on this store found it"},
    "labels": {"metavar": "PATH", "help": "with --teacher: the model's class names"},
    "labels_column": {"metavar": "NAME", "help": "of a table as --labels, as in run"},
    "outputs": {"help": "with --teacher: before or after the activation"},
    "model_sha256": {"metavar": "HEX", "help": "with --teacher keras: confirms the model"},
    "device": {"choices": ["cpu", "gpu"], "help": "with --teacher keras or onnx: default cpu"},
}
WORST_CLASSES = 10


def add_inspect(commands: Any) -> None:
    command = add_command(commands, _inspect)
    command.add_argument("--quarantine", action="store_true", help="list the quarantined windows, tab-separated")
    command.add_argument("--notes", action="store_true", help="list clips with odd, but labelled, audio, tab-separated")


def _inspect(args: Namespace) -> int:
    """Say what a store holds, and what is missing or quarantined.

    Exits 1 if windows are missing or quarantined.

    examples:
      softlabels inspect                              of soft_labels
      softlabels inspect labels --quarantine          which windows, and why, tab-separated
      softlabels inspect labels --json                all of it, for a program
    """
    store = open_store(args.store)
    contents = _described(store)
    if args.json:
        listed: dict[str, Any] = {"notes": _notes(store)} if args.notes else {}
        listed |= {"quarantine": list(map(dataclasses.asdict, store.census.quarantine))} if args.quarantine else {}
        print_json(contents | listed)
    elif args.notes:
        print_line("clip_id", "note")
        for clip_id, note in _notes(store).items():
            print_line(clip_id, note)
    elif args.quarantine:
        print_line("clip_id", "first_window", "windows", "reason", "detail")
        for entry in store.census.quarantine:
            print_line(entry.clip_id, entry.first_window, entry.windows, entry.reason, entry.detail)
    else:
        _print_contents(contents)
    return 1 if contents["missing"] or contents["quarantined"] else 0


def _notes(store: StoreReader) -> dict[str, str]:
    """clip_id -> what is odd about its audio, though it is labelled."""
    noted = (store.receipt(shard).notes for shard in store.receipts)
    return dict(sorted(pair for notes in noted for pair in notes.items()))


def _described(store: StoreReader) -> dict[str, Any]:
    """What a store holds, as plain values."""
    census = store.census
    reasons: Counter[str] = Counter()
    for entry in census.quarantine:
        reasons[entry.reason] += entry.windows
    return {
        "store": str(store.storage),
        "fingerprint": store.spec.fingerprint(),
        "digest": store.digest,
        "spec": store.spec.to_json(),
        "classes": len(store.classes),
        "clips": len(census.clips),
        **named(census, "windows", "labelled", "quarantined"),
        "quarantined_by_reason": dict(reasons.most_common()),
        "missing": census.missing,
        "shards": store.planned_shards,
        "missing_shards": store.missing_shards(),
        "bytes": sum(receipt.size for receipt in store.receipts.values()),
        "numerics_classes": sorted({receipt.numerics_class for receipt in store.receipts.values()}),
    }


def _print_contents(contents: dict[str, Any]) -> None:
    spec = contents["spec"]
    reading = LabelSpec.from_json(spec).reading
    window = WindowSpec(**spec["window"])
    print_results(
        False,
        store=contents["store"],
        fingerprint=contents["fingerprint"],
        teacher=f"{spec['teacher']} sha256:{spec['teacher_digest']}",
        classes=contents["classes"],
        activation=spec["activation"],
        window_s=f"{window.window_s:g}",
        hop_s=f"{window.hop_s:g}",
        rate_hz=f"{window.rate_hz}",
        layout=spec["layout"],
        **({"reading": reading} if reading else {}),
        **{name: spec[name] for name in ("components", "component_digest", "embedding") if name in spec},
        **{name: contents[name] for name in ("clips", "windows", "labelled", "quarantined")},
        quarantined_by_reason=contents["quarantined_by_reason"],
        missing=contents["missing"],
        shards=contents["shards"],
        missing_shards=len(contents["missing_shards"]),
        bytes=contents["bytes"],
    )


def add_verify(commands: Any) -> None:
    command = add_command(commands, _verify)
    described: Described = {
        "shards": {"flags": "--shard", "metavar": "N", "help": "only this one; may be given again"},
        "recompute": {"metavar": "FRACTION", "help": "windows to score again, 0 to 1"},
        "digest": {"metavar": "SHA256", "help": "the digest that the store was published under"},
        "untrusted": {"help": "a store by somebody else: look at every file, run nothing"},
        **WHERE,
    }
    add_flags(command, verify, described)
    _add_teacher(command)


def _add_teacher(command: ArgumentParser) -> None:
    add_flags(command.add_argument_group("teacher (never taken from the store)"), TeacherChoice, TEACHER)
    command.set_defaults(kind=None)


def _teacher(args: Namespace) -> TeacherChoice | None:
    """The teacher that the flags name; None where it is the one of this user's own run. Raises: ValueError."""
    if args.kind is not None:
        return filled(TeacherChoice, args)
    for name in TEACHER:
        if name != "model" and getattr(args, name) is not None:
            raise ValueError(f"--{name.replace('_', '-')} goes with --teacher, which names all of a teacher")
    return None


def _verify(args: Namespace) -> int:
    """Read every byte of a store and hold it against receipts and plan; change nothing.

    --recompute 0.01 lets the teacher score 1 % of the windows again, drawn with a fixed seed;
    --shard 17 --recompute 1 a whole shard. Audio and teacher are those of your own run on this store; of a store that
    came from elsewhere you name them: what it says itself is never run.
    Exits 1 on any difference, with the command that repairs it.
    Prints one digest of the entire store, to publish beside it and to hold a copy against with --digest;
    --untrusted looks for links, foreign files and paths that lead out of the audio root, too.

    examples:
      softlabels verify                               every byte of soft_labels
      softlabels verify labels --recompute 0.01       and 1 % of the windows scored again
      softlabels verify labels --untrusted            of a store that somebody sent you
    """
    with contextlib.redirect_stdout(sys.stderr):  # a teacher of somebody's own may print
        report = filled(verify, args, store=open_store(args.store), teacher=_teacher(args))
    code = 0 if report.good else 1
    if args.json:
        print_json({"good": report.good, **dataclasses.asdict(report)})
        return code
    likenesses = Counter(check.likeness for check in report.shards if check.likeness)
    problems = [*report.problems, *(check.problem for check in report.shards if check.problem)]
    print_results(
        False,
        digest=report.digest,
        **(report.checked if args.untrusted else {}),
        shards=len(report.shards),
        recomputed=sum(check.recomputed for check in report.shards),
        recomputed_shards=likenesses,
        orphans=len(report.orphans),
        problems=len(problems),
    )
    for problem in problems:
        print_line(f"problem  {problem}")
    return code


def add_regenerate(commands: Any) -> None:
    command = add_command(commands, _regenerate)
    described: Described = {
        "shards": {"flags": "--shard", "metavar": "N", "help": "may be given again"},
        "accept_equivalent": {"help": "let equivalent bytes become the shard, on record"},
        **WHERE,
    }
    add_flags(command, regenerate, described)
    _add_teacher(command)


def _regenerate(args: Namespace) -> int:
    """Make shards again from the store's own plan and compare; restore what is damaged.

    identical   the same bytes; a damaged or deleted file is intact again
    equivalent  within rounding, as from another CPU class: the stored shard stays
    different   exit 1, and what differs: audio, packages, numerics class

    examples:
      softlabels regenerate soft_labels --shard 17
      softlabels regenerate soft_labels --shard 17 --shard 18 --root /data/audio
    """
    with contextlib.redirect_stdout(sys.stderr):  # a teacher of somebody's own may print
        results = filled(regenerate, args, store=open_store(args.store), teacher=_teacher(args))
    good = not any(result.problem for result in results)
    if args.json:
        print_json({"good": good, "shards": list(map(dataclasses.asdict, results))})
    for result in results if not args.json else ():
        done = "restored" if result.restored else "accepted" if result.accepted else ""
        print_line(f"shard {result.shard}  {result.likeness or 'failed'}  {result.problem or done}".rstrip())
    return 0 if good else 1


def add_compare(commands: Any) -> None:
    command = add_command(commands, _compare, store=False)
    command.add_argument("a", metavar="A", help="a store")
    command.add_argument("b", metavar="B", help="another one")


def _compare(args: Namespace) -> int:
    """Hold two stores of the same audio against each other: two teachers, or two settings.

    Clips meet by clip_id and audio digest, windows by time (nearest centres that share half a window), classes by
    name. same_top_class is the share of windows in which both give one class the highest probability; heard_by counts
    windows x classes at 0.5 or more; kl is in nats, from A to B; correlation is of log-odds, so that calibration alone
    does not lower it. The classes and windows that differ most come last, tab-separated; --json has all classes.

    examples:
      softlabels compare birdnet_labels perch_labels
      softlabels compare old_labels new_labels --json
    """
    a, b = open_store(args.a), open_store(args.b)
    with progress(len(a), "windows") as on_windows:
        found = compare(a, b, on_windows=on_windows)
    if args.json:
        print_json(found.to_json())
    else:
        _print_comparison(found)
    return 0


def _print_comparison(found: Comparison) -> None:
    """The figures, then the classes and the windows that differ most."""
    counts = ("clips", "clips_only_a", "clips_only_b", "clips_other_audio", "windows", "unmatched_windows")
    print_results(
        False,
        **named(found, "a", "b", *counts),
        classes=len(found.classes),
        classes_only_a=len(found.classes_only_a),
        classes_only_b=len(found.classes_only_b),
        same_top_class=f"{found.same_top_class:.4f}",
        **named(found, "heard_by_both", "heard_by_a_only", "heard_by_b_only"),
        kl=f"{found.kl:.6f}",
    )
    for which, names in ((found.a, found.classes_only_a), (found.b, found.classes_only_b)):
        if names:
            tell(f"only '{which}' has {some(names)}{', ...' if len(names) > SHOWN else ''}")
    print_line()
    print_line("class", "kl", "correlation", "mean_a", "mean_b")
    for each in found.classes[:WORST_CLASSES]:
        correlation = "" if each.correlation is None else f"{each.correlation:.3f}"
        print_line(each.name, f"{each.kl:.4f}", correlation, f"{each.mean_a:.4f}", f"{each.mean_b:.4f}")
    print_line()
    print_line("clip_id", "start_a_s", "start_b_s", "kl", "a", "p_a", "b", "p_b")
    for window in found.most_different:
        times = (f"{window.start_a_s:.2f}", f"{window.start_b_s:.2f}", f"{window.kl:.2f}")
        tops = (window.class_a, f"{window.probability_a:.3f}", window.class_b, f"{window.probability_b:.3f}")
        print_line(window.clip_id, *times, *tops)
