"""Break one commit at every system call that writes, and look whether the store is the old or the new one.

    python tests/benchmarks/syscall_faults.py

A tiny process commits under strace, which kills it at the N-th write-class call, or lets that call fail with
ENOSPC or EIO, for every N there is; `commit_shard`, `LocalStorage.put` and `put_if_absent`, on an empty folder and
over good older states. After each fault the store has to be exactly the old or the new one, no receipt may name a
file that is absent or wrong, and the same commit, done again, has to succeed. The last line of stdout is one JSON
object; exits 1 on a bad state; says so and exits 0 where strace is absent or may not trace.
"""

import argparse
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from softlabels.records.quarantine import Quarantined
from softlabels.records.receipts import Receipt, commit_shard, latest_receipt_keys, read_receipt
from softlabels.storage.local import LocalStorage

WRITES = ("write", "pwrite64", "fsync", "fdatasync", "link", "linkat", "rename", "renameat", "renameat2")
WRITES += ("unlink", "unlinkat", "mkdir", "mkdirat")
FAULTS = ("signal=SIGKILL", "error=ENOSPC", "error=EIO")
BEGIN = "/softlabels-commit-begins-here"  # looked for by the driver, so that the trace shows where to start counting
OLD, NEW = b"old bytes " * 5000, b"new bytes " * 6000
SHARD = 7


def receipt(data: bytes, *, shard: int = SHARD, quarantined: int = 0) -> Receipt:
    entries = (Quarantined(clip_id="c", first_window=0, windows=quarantined, reason="crashed"),) if quarantined else ()
    return Receipt(
        shard=shard,
        fingerprint="f" * 64,
        digest=hashlib.sha256(data).hexdigest(),
        size=len(data),
        rows=3,
        quarantined=entries,
        audio={},
        environment={},
        numerics_class="9" * 64,
    )


OLDER = receipt(OLD, quarantined=2)


def prepare(case: str, storage: LocalStorage) -> None:
    """The state before the commit."""
    if case in ("commit beside another", "commit again", "commit over damage", "commit a replacement"):
        commit_shard(storage, OLD, receipt(OLD, shard=1))
    if case in ("commit again", "commit over damage"):
        commit_shard(storage, NEW, receipt(NEW))
    if case == "commit over damage":
        storage.path(receipt(NEW).file).write_bytes(NEW[:-1])
    if case == "commit a replacement":
        commit_shard(storage, OLD, OLDER)
    if case in ("put over another", "put-if-absent over another"):
        storage.put("folder/key", OLD)


def act(case: str, storage: LocalStorage) -> None:
    """The commit itself. Raises: what the fault makes it raise."""
    if case.startswith("commit"):
        replacing = OLDER.identity if case == "commit a replacement" else ""
        outcome, _ = commit_shard(storage, NEW, receipt(NEW), replacing=replacing)
        if outcome not in ("committed", "equal"):
            raise SystemExit(f"unexpected outcome {outcome}")
    elif case.startswith("put-if-absent"):
        storage.put_if_absent("folder/key", NEW)
    else:
        storage.put("folder/key", NEW)


CASES = ("commit", "commit beside another", "commit again", "commit over damage", "commit a replacement")
CASES += ("put", "put over another", "put-if-absent", "put-if-absent over another")


def state(storage: LocalStorage) -> dict[str, str]:
    """What a reader sees: standing receipts with what their files hold, and finished files under plain keys."""
    seen = {}
    for shard, key in latest_receipt_keys(storage).items():
        standing = read_receipt(storage, key)
        there = storage.exists(standing.file)
        got = hashlib.sha256(storage.get(standing.file)).hexdigest() if there else "absent"
        seen[f"shard {shard}"] = f"{standing.identity} {'good' if got == standing.digest else 'bad'}"
    for key in storage.list("folder"):
        seen[key] = hashlib.sha256(storage.get(key)).hexdigest()
    return seen


def traced(case: str, root: Path, *options: str) -> tuple[subprocess.CompletedProcess, list[str]]:
    """The driver under strace, and the trace from its beginning mark on."""
    trace = root.with_suffix(".trace")
    tracing = ",".join([*WRITES, "access", "faccessat", "faccessat2"])
    command = ["strace", "-f", "-qq", "-e", f"trace={tracing}", "-o", str(trace), *options]
    command += [sys.executable, "-B", __file__, "--drive", case, str(root)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = trace.read_text(errors="replace").splitlines()
    return done, lines


def calls(lines: list[str]) -> dict[str, range]:
    """syscall -> its numbers within the commit, counted from the start of the process as strace does."""
    before, total, begun = Counter(), Counter(), False
    for line in lines:
        begun = begun or BEGIN in line
        found = re.match(r"\d+ +(\w+)\(", line)
        if found and found[1] in WRITES:
            total[found[1]] += 1
            before[found[1]] += not begun
    return {name: range(before[name] + 1, total[name] + 1) for name in total}


def try_fault(case: str, folder: Path, syscall: str, number: int, fault: str) -> dict[str, object]:
    """One fault in one commit; what came of it."""
    root = folder / "store"
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    storage = LocalStorage(root)
    prepare(case, storage)
    old = state(storage)
    done, lines = traced(case, root, "-e", f"inject={syscall}:{fault}:when={number}")
    begin = next((i for i, line in enumerate(lines) if BEGIN in line), len(lines))
    hit = any("INJECTED" in line or "killed by SIGKILL" in line for line in lines[begin:])
    after, raised = state(storage), done.stderr.strip().splitlines()[-1:] or [""]
    leftovers = len(list(root.rglob(".tmp-*")))
    try:
        act(case, storage)
        repeated = ""
    except Exception as e:  # any error of the repeat is a finding
        repeated = f"{type(e).__name__}: {e}"
    new = state(storage)
    good_end = not any(value.endswith("bad") for value in new.values())
    return {
        "hit": hit,
        "bad": after not in (old, new) or bool(repeated) or not good_end or (after != old and _is_bad(after)),
        "became": "new" if after == new else "old" if after == old else "neither",
        "said": raised[0].partition(":")[0] if fault.startswith("error") else "",
        "leftovers": leftovers,
        "detail": f"{case}, {syscall} number {number}, {fault}: {after} {repeated}",
    }


def _is_bad(seen: dict[str, str]) -> bool:
    return any(value.endswith("bad") for value in seen.values())


def may_trace() -> bool:
    if not shutil.which("strace"):
        return False
    return subprocess.run(["strace", "-o", os.devnull, "true"], capture_output=True, check=False).returncode == 0


def break_case(case: str, folder: Path) -> list[dict[str, object]]:
    """Every fault at every writing call of one commit."""
    root = folder / "store"
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    prepare(case, LocalStorage(root))
    done, lines = traced(case, root)
    if done.returncode:
        raise SystemExit(f"{case}: the driver failed without a fault: {done.stderr}")
    numbered = [(name, number) for name, numbers in calls(lines).items() for number in numbers]
    return [try_fault(case, folder, *one, fault) for one in numbered for fault in FAULTS]


def drive(case: str, root: Path) -> None:
    storage = LocalStorage(root)
    os.access(BEGIN, os.F_OK)
    act(case, storage)
    os._exit(0)  # nothing after the commit may be counted


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--drive", nargs=2, metavar=("CASE", "FOLDER"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.drive:
        drive(args.drive[0], Path(args.drive[1]))
    if not may_trace():
        print("skipped: strace is absent or may not trace here")
        print(json.dumps({"skipped": True}))
        return 0
    print(f"{platform.machine()}, Linux {platform.release()}; Python {platform.python_version()}")
    results: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as folder:
        for case in CASES:
            found = break_case(case, Path(folder))
            became = dict(Counter(str(one["became"]) for one in found))
            print(f"{case:<28}{len(found):>4} faults, bad {sum(bool(one['bad']) for one in found)}, state {became}")
            results += found
    return summarise(results)


def summarise(results: list[dict[str, object]]) -> int:
    bad = [one for one in results if one["bad"]]
    missed = [one for one in results if not one["hit"]]
    for one in [*bad, *missed]:
        print(f"{'bad' if one['bad'] else 'not injected'}: {one['detail']}")
    said = {}
    for fault in FAULTS[1:]:
        said[fault] = dict(Counter(str(one["said"]) for one in results if fault in str(one["detail"])).most_common())
        print(f"{fault} is raised as {said[fault]}")
    print(f"bad states: {len(bad)} of {len(results)}")
    leftovers = sum(bool(one["leftovers"]) for one in results if one["said"])
    figures = {"faults": len(results), "bad": len(bad), "not_injected": len(missed), "raised": said}
    print(json.dumps({**figures, "errors_that_leave_a_temporary_file": leftovers}))
    return 1 if bad or missed else 0


if __name__ == "__main__":
    sys.exit(main())
