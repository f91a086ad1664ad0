"""Looking at stores: `softlabels inspect`, `verify`, `regenerate` and `compare`."""

import dataclasses
from argparse import ArgumentParser, Namespace
from collections import Counter
from typing import Any

from pipeline.checking.compare import Comparison, compare
from pipeline.checking.regenerate import regenerate
from pipeline.checking.verify import verify
from pipeline.cli.flags import Described, add_command, add_flags, filled
from pipeline.cli.printing import named, print_fields, print_json, print_line, progress
from pipeline.teachers.teacher import TeacherChoice
from softlabels.records.spec import LabelSpec
from softlabels.soft_label_store import open as open_store
from softlabels.store.reader import StoreReader
from softlabels.windows import WindowSpec

WHERE: Described = {  # what verify and regenerate have in common
    "root": {"metavar": "DIR|URL", "help": "where the audio is, default where your own run on this store found it"},
    "jobs": {"metavar": "N", "help": "default one a core"},
}
TEACHER: Described = {  # the fields of a choice that a store does not know, or is not to be believed
    "kind": {"flags": "--teacher", "metavar": "NAME", "help": "as in run; default as in your own run on this store"},
    "model": {"metavar": "PATH", "help": "where the model is, default where your own run on this store found it"},
    "labels": {"metavar": "PATH", "help": "with --teacher: the model's class names"},
    "outputs": {"help": "with --teacher: before or after the activation"},
    "model_sha256": {"metavar": "HEX", "help": "with --teacher keras: confirms the model"},
    "device": {"choices": ["cpu", "gpu"], "help": "with --teacher keras or onnx: default cpu"},
}
WORST_CLASSES = 10


def add_inspect(commands: Any) -> None:
    command = add_command(commands, _inspect)
    command.add_argument("--json", action="store_true", help="as one JSON object")
    command.add_argument("--quarantine", action="store_true", help="list the quarantined windows, tab-separated")


def _inspect(args: Namespace) -> int:
    """Say what a store holds, and what is missing or quarantined."""
    store = open_store(args.store)
    contents = _described(store)
    if args.quarantine:
        print_line("clip_id", "first_window", "windows", "reason", "detail")
        for entry in store.census.quarantine:
            print_line(entry.clip_id, entry.first_window, entry.windows, entry.reason, entry.detail)
    elif args.json:
        print_json(contents)
    else:
        _print_contents(contents)
    return 1 if contents["missing"] or contents["quarantined"] else 0


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
    spec, missing = contents["spec"], len(contents["missing_shards"])
    reading = LabelSpec.from_json(spec).reading
    window = WindowSpec(**spec["window"])
    print_fields(
        store=contents["store"],
        fingerprint=contents["fingerprint"],
        teacher=f"{spec['teacher']} sha256:{spec['teacher_digest']}",
        classes=f"{contents['classes']:,} {spec['activation']}",
        window_s=f"{window.window_s:g}",
        hop_s=f"{window.hop_s:g}",
        rate_hz=f"{window.rate_hz}",
        layout=spec["layout"],
        **({"reading": reading} if reading else {}),
        **({"components": f"{spec['components']} sha256:{spec['component_digest']}"} if "components" in spec else {}),
        **({"embedding": f"{spec['embedding']} numbers"} if "embedding" in spec else {}),
        **{name: contents[name] for name in ("clips", "windows", "labelled", "quarantined")},
        **{f"  {reason}": count for reason, count in contents["quarantined_by_reason"].items()},
        missing=contents["missing"],
        shards=f"{contents['shards']:,} ({missing:,} missing)",
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
    command.add_argument("--json", action="store_true", help="as one JSON object")


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
    """
    report = filled(verify, args, store=open_store(args.store), teacher=_teacher(args))
    code = 0 if report.good else 1
    if args.json:
        print_json({"good": report.good, **dataclasses.asdict(report)})
        return code
    likenesses = Counter(check.likeness for check in report.shards if check.likeness)
    problems = [*report.problems, *(check.problem for check in report.shards if check.problem)]
    print_fields(
        digest=report.digest,
        **(report.checked if args.untrusted else {}),
        shards=len(report.shards),
        recomputed=f"{sum(check.recomputed for check in report.shards):,} windows",
        **{f"  {likeness}": f"{count:,} shards" for likeness, count in likenesses.items()},
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
    """
    results = filled(regenerate, args, store=open_store(args.store), teacher=_teacher(args))
    for result in results:
        done = "restored" if result.restored else "accepted" if result.accepted else ""
        print_line(f"shard {result.shard}  {result.likeness or 'failed'}  {result.problem or done}".rstrip())
    return 1 if any(result.problem for result in results) else 0


def add_compare(commands: Any) -> None:
    command = add_command(commands, _compare, store=False)
    command.add_argument("a", metavar="A", help="a store")
    command.add_argument("b", metavar="B", help="another one")
    command.add_argument("--json", action="store_true", help="as one JSON object")


def _compare(args: Namespace) -> int:
    """Hold two stores of the same audio against each other: two teachers, or two settings.

    Clips meet by clip_id and audio digest, windows by time (nearest centres that share half a window), classes by
    name. same_top_class is the share of windows in which both give one class the highest probability; heard_by counts
    windows x classes at 0.5 or more; kl is in nats, from A to B; correlation is of log-odds, so that calibration alone
    does not lower it. The classes and windows that differ most come last, tab-separated; --json has all classes.
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
    print_fields(
        **named(found, "a", "b", *counts),
        classes=len(found.classes),
        classes_only_a=_some(found.classes_only_a),
        classes_only_b=_some(found.classes_only_b),
        same_top_class=f"{found.same_top_class:.4f}",
        **named(found, "heard_by_both", "heard_by_a_only", "heard_by_b_only"),
        kl=f"{found.kl:.6f}",
    )
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


def _some(names: tuple[str, ...]) -> str:
    """How many, and the first five."""
    listed = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
    return f"{len(names):,}: {listed}" if names else "0"
