"""What a person at a terminal sees: progress on stderr, results on stdout as `name  value` lines."""

import dataclasses
import json
import shlex
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tqdm import tqdm

from pipeline.checking.compare import Comparison
from pipeline.checking.regenerate import Regenerated
from pipeline.checking.verify import VerifyReport
from pipeline.cli.arguments import MANIFEST
from pipeline.drafts.manifest import ManifestSource
from pipeline.exports.written import Exported
from pipeline.labelling.worker import ShardStatus
from pipeline.report.report import Reported, ReportOptions
from pipeline.running.closing import RunSummary
from pipeline.running.forecast import Forecast
from pipeline.running.run import RunEvents
from pipeline.teachers.teacher import Teacher
from softlabels.store.reader import StoreReader
from softlabels.windows import WindowSpec


class RunConsole:
    """Progress of a run: files probed, then windows labelled with windows/s, x real time and time left."""

    def __init__(self) -> None:
        self._bar: tqdm | None = None
        self._hop_s = 0.0
        self.events = RunEvents(on_probe=self.on_probe, on_plan=self._on_plan, on_shard=self._on_shard)

    def __enter__(self) -> "RunConsole":
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def on_probe(self, files: int, total: int) -> None:
        """Some more of the files have been probed."""
        if self._bar is None and files < total:
            self._bar = _bar(total, "files probed")
        if self._bar is not None:
            self._bar.update(files)

    def _on_plan(self, windows: int, shards: int, window: WindowSpec, teacher: Teacher) -> None:
        self._close()
        if shards:  # an unchanged store is worth one line in all
            print(f"teacher: {teacher.name}, {len(teacher.classes):,} classes", file=sys.stderr)
            if teacher.notice:
                print(f"notice: {teacher.notice}", file=sys.stderr)
            print(f"labelling {windows:,} windows in {shards:,} shards", file=sys.stderr)
            self._hop_s = window.hop_s
            self._bar = _bar(windows, "windows")

    def _on_shard(self, status: ShardStatus) -> None:
        if self._bar is None:
            return
        self._bar.update(status.planned)
        elapsed = self._bar.format_dict["elapsed"]
        self._bar.set_postfix_str(f"{self._bar.n * self._hop_s / max(elapsed, 1e-9):,.0f} x real time")
        if status.quarantined:
            self._bar.write(f"quarantined {status.quarantined} windows, first {status.message}", file=sys.stderr)
        elif status.outcome == "deferred":
            self._bar.write(f"put off shard {status.shard}: {status.message}", file=sys.stderr)


def _bar(total: int, unit: str, delay: float = 0) -> tqdm:
    often = 0.1 if sys.stderr.isatty() else 60  # a log file wants a line a minute
    return tqdm(total=total, unit=f" {unit}", mininterval=often, delay=delay, dynamic_ncols=True, leave=False)


@contextmanager
def progress(total: int, unit: str) -> Iterator[Callable[[int], None]]:
    """A bar on stderr once a job takes a second; what it gives is called with the number of things just done."""
    with _bar(total, unit, delay=1) as bar:

        def on_done(number: int) -> None:
            bar.update(number)

        yield on_done


def print_json(value: object) -> None:
    """One JSON object, as a person reads it."""
    print(json.dumps(value, indent=2, ensure_ascii=False))


def print_summary(summary: RunSummary, *, seconds: float, manifest: Path) -> None:
    """What a run did, and what to type next; one line if there was nothing to do."""
    if not (summary.shards_done or summary.missing or summary.stopped or summary.different or summary.deferred):
        print(
            f"{summary.store}: nothing to do, {summary.clips:,} clips, {summary.labelled:,} windows labelled, "
            f"{summary.quarantined:,} quarantined"
        )
        return
    _print_fields(
        {
            "clips": summary.clips,
            "windows": summary.windows,
            "labelled": f"{summary.labelled:,} ({summary.new_windows:,} by this run)",
            "quarantined": summary.quarantined,
            "missing": summary.missing,
            "seconds": f"{seconds:,.1f}",
            "bytes_per_window": f"{summary.shard_bytes / max(1, summary.labelled):,.0f}",
            "store": summary.store,
        }
    )
    for line in _advice(summary, manifest):
        print(line, file=sys.stderr)


def _advice(summary: RunSummary, manifest: Path) -> Iterator[str]:
    if summary.stopped:
        yield f"stopped early: {summary.stopped}"
    if summary.different:
        yield (
            f"shards {', '.join(map(str, summary.different[:10]))} came out with other bytes than those committed, "
            "which stay: another machine, another package version, or a fault"
        )
    if summary.numerics_classes > 1:
        yield f"{summary.numerics_classes} numerics classes made this store: its labels are equal within rounding"
    if summary.deferred:
        yield f"{len(summary.deferred):,} put off, the environment is at fault: {summary.deferred[0]}"
    if summary.left:
        yield f"{summary.left:,} clips in the store are no longer in the manifest; their labels are kept"
    if summary.missing or summary.deferred:
        yield "next: the same command again, it goes on from here"
    elif summary.quarantined:
        yield f"next: softlabels inspect {summary.store} --quarantine"
    else:
        yield f"next, in Python: softlabels.open({str(summary.store)!r}).join({str(manifest)!r})"


def print_forecast(expected: Forecast, store: str) -> None:
    """What `run` would do."""
    _print_fields(
        {
            **_named(expected, "clips", "unusable_clips", "windows", "shards"),
            "seconds": f"{expected.seconds:,.0f}",
            "bytes_dense": expected.dense_bytes,
            "bytes_sparse": expected.sparse_bytes,
            "bytes_100_classes": expected.subset_bytes,
            "store": store,
        }
    )
    print("nothing was labelled; the same command without --dry-run does it", file=sys.stderr)


def describe(store: StoreReader) -> dict[str, Any]:
    """What a store holds, as plain values."""
    census = store.census
    reasons: Counter[str] = Counter()
    for entry in census.quarantine:
        reasons[entry.reason] += entry.windows
    return {
        "store": str(store.storage),
        "fingerprint": store.spec.fingerprint(),
        "spec": store.spec.to_json(),
        "classes": len(store.classes),
        "clips": len(census.clips),
        **_named(census, "windows", "labelled", "quarantined"),
        "quarantined_by_reason": dict(reasons.most_common()),
        "missing": census.missing,
        "shards": store.planned_shards,
        "missing_shards": store.missing_shards(),
        "bytes": sum(receipt.size for receipt in store.receipts.values()),
        "numerics_classes": sorted({receipt.numerics_class for receipt in store.receipts.values()}),
    }


def print_contents(contents: dict[str, Any]) -> None:
    """`describe` for people."""
    spec, missing = contents["spec"], len(contents["missing_shards"])
    window = WindowSpec(**spec["window"])
    _print_fields(
        {
            "store": contents["store"],
            "fingerprint": contents["fingerprint"],
            "teacher": f"{spec['teacher']} sha256:{spec['teacher_digest']}",
            "classes": f"{contents['classes']:,} {spec['activation']}",
            "window_s": f"{window.window_s:g}",
            "hop_s": f"{window.hop_s:g}",
            "rate_hz": f"{window.rate_hz}",
            "layout": spec["layout"],
            **{name: contents[name] for name in ("clips", "windows", "labelled", "quarantined")},
            **{f"  {reason}": count for reason, count in contents["quarantined_by_reason"].items()},
            "missing": contents["missing"],
            "shards": f"{contents['shards']:,} ({missing:,} missing)",
            "bytes": contents["bytes"],
        }
    )


def print_quarantine(store: StoreReader) -> None:
    """One tab-separated line a quarantined stretch, with a header."""
    print("clip_id\tfirst_window\twindows\treason\tdetail")
    for entry in store.census.quarantine:
        print(entry.clip_id, entry.first_window, entry.windows, entry.reason, entry.detail, sep="\t")


def print_verified(report: VerifyReport, *, as_json: bool) -> None:
    """Counts, then one `problem` line each."""
    if as_json:
        print_json({"good": report.good, **dataclasses.asdict(report)})
        return
    likenesses = Counter(check.likeness for check in report.shards if check.likeness)
    problems = [*report.problems, *(check.problem for check in report.shards if check.problem)]
    _print_fields(
        {
            "shards": len(report.shards),
            "recomputed": f"{sum(check.recomputed for check in report.shards):,} windows",
            **{f"  {likeness}": f"{count:,} shards" for likeness, count in likenesses.items()},
            "orphans": len(report.orphans),
            "problems": len(problems),
        }
    )
    for problem in problems:
        print(f"problem  {problem}")


def print_regenerated(results: list[Regenerated]) -> None:
    """One line a shard: its number, how it compares, what was done."""
    for result in results:
        done = "restored" if result.restored else "accepted" if result.accepted else ""
        print(f"shard {result.shard}  {result.likeness or 'failed'}  {result.problem or done}".rstrip())


def print_advice_for_manifest(manifest: Path, source: ManifestSource) -> None:
    """What to type after `softlabels manifest`."""
    beside = source.root.resolve() == manifest.resolve().parent
    flags = "" if beside else f" --root {shlex.quote(str(source.root))}"
    named = "" if manifest == Path(MANIFEST) else f" {shlex.quote(str(manifest))}"
    print(f"next: softlabels run{named}{flags}", file=sys.stderr)
    if source.raven:
        label = source.columns.get("label")
        column = f", annotation_column={label!r}" if label else ""
        join = f"store.join({str(manifest)!r}, annotations={source.raven!r}, annotated_extents='clips'{column})"
        print(f"then, in Python: {join}", file=sys.stderr)


def print_reported(done: Reported, output: Path, options: ReportOptions) -> None:
    """What the page says, and where it is."""
    _print_fields(
        {
            "annotated": f"{done.annotated:,} clips" if options.manifest else "no manifest",
            "suspects": done.suspects,
            "duplicates": f"{done.duplicates:,} sets of clips",
            "bytes": done.bytes,
            "written": f"{output} {options.suspects or ''}".rstrip(),
        }
    )
    print(f"next: open {output} in a browser", file=sys.stderr)


def print_exported(done: Exported, output: str, store: StoreReader) -> None:
    """What was written, and what its user should know."""
    census = store.census
    _print_fields(
        {
            "rows": done.rows,
            **_named(census, "labelled", "quarantined", "missing"),
            "written": output,
        }
    )
    if census.missing:
        print(f"{census.missing:,} windows are not labelled yet: `softlabels run`, then export again", file=sys.stderr)
    for note in done.notes:
        print(f"note: {note}", file=sys.stderr)


WORST_CLASSES = 10


def print_comparison(found: Comparison) -> None:
    """The figures, then the classes and the windows that differ most."""
    counts = ("clips", "clips_only_a", "clips_only_b", "clips_other_audio", "windows", "unmatched_windows")
    _print_fields(
        {
            **_named(found, "a", "b", *counts),
            "classes": len(found.classes),
            "classes_only_a": _some(found.classes_only_a),
            "classes_only_b": _some(found.classes_only_b),
            "same_top_class": f"{found.same_top_class:.4f}",
            **_named(found, "heard_by_both", "heard_by_a_only", "heard_by_b_only"),
            "kl": f"{found.kl:.6f}",
        }
    )
    print("\nclass\tkl\tcorrelation\tmean_a\tmean_b")
    for each in found.classes[:WORST_CLASSES]:
        correlation = "" if each.correlation is None else f"{each.correlation:.3f}"
        print(each.name, f"{each.kl:.4f}", correlation, f"{each.mean_a:.4f}", f"{each.mean_b:.4f}", sep="\t")
    print("\nclip_id\tstart_a_s\tstart_b_s\tkl\ta\tp_a\tb\tp_b")
    for window in found.most_different:
        times = f"{window.start_a_s:.2f}\t{window.start_b_s:.2f}\t{window.kl:.2f}"
        tops = f"{window.class_a}\t{window.probability_a:.3f}\t{window.class_b}\t{window.probability_b:.3f}"
        print(window.clip_id, times, tops, sep="\t")


def _some(names: tuple[str, ...]) -> str:
    """How many, and the first five."""
    listed = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
    return f"{len(names):,}: {listed}" if names else "0"


def _named(of: object, *names: str) -> dict[str, Any]:
    return {name: getattr(of, name) for name in names}


def _print_fields(fields: dict[str, Any]) -> None:
    width = 2 + max(map(len, fields))
    for name, value in fields.items():
        print(f"{name:<{width}}{value:,}" if isinstance(value, int) else f"{name:<{width}}{value}")
