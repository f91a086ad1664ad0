"""The walk of a manifest through the join: which functions it enters, in how many files, and how often it changes file.

    python tests/benchmarks/walk_join.py [--list]

A stay is one function that the code of the join itself calls, entered for the first time, in the order of entering.
What such a function calls in turn is its own affair (how a manifest is read, how a shard is decoded), and so are the
helpers at the bottom of the house, which know nothing of a join. Works on the tree before it had rooms too.
"""

import argparse
import inspect
import sys
import tempfile
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from types import FrameType

import softlabels

HERE = Path(__file__).resolve().parent
RECORDED = HERE.parent / "recorded"
PACKAGE = Path(softlabels.__file__).parent


JOIN = (
    "soft_label_store.py",
    "joins/",
    "store.py",
    "store_join.py",
    "joined_rows.py",
    "soft_array.py",
    "join_check.py",
)
HELPERS = ("errors", "threads", "windows", "ragged", "tables", "digests", "ahead", "planned", "spec", "storage", "kept")
HELPERS += ("location", "store/", "index", "receipts", "class", "object_storage", "audio_root", "file_cache")


def walk(call: Callable[[], object]) -> list[tuple[str, str]]:
    """(file, function) of every function that the join's code enters, once each, in order."""
    stays: dict[tuple[str, str], None] = {}

    def note(frame: FrameType, event: str, _argument: object) -> None:
        here, caller = file_of(frame), frame.f_back and file_of(frame.f_back)
        if event != "call" or not here or not caller or frame.f_code.co_name.startswith(("<", "__")):
            return
        is_code = frame.f_code.co_flags & inspect.CO_OPTIMIZED  # the body of a class is none
        if is_code and caller.startswith(JOIN) and not here.startswith(HELPERS):
            stays.setdefault((here, frame.f_code.co_name))

    sys.setprofile(note)
    try:
        call()
    finally:
        sys.setprofile(None)
    return list(stays)


def file_of(frame: FrameType) -> str:
    """The file of a frame below the package; "" outside."""
    path = frame.f_code.co_filename
    return str(Path(path).relative_to(PACKAGE)) if path.startswith(f"{PACKAGE}/") else ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--list", action="store_true", help="print the stays")
    args = parser.parse_args()
    store = softlabels.open(RECORDED / "store")
    with tempfile.TemporaryDirectory() as folder:
        stays = walk(
            lambda: store.join(RECORDED / "data_manifest.csv", root=RECORDED, missing="drop", cache_dir=folder)
        )
    files = {file for file, _ in stays}
    changes = sum(a[0] != b[0] for a, b in pairwise(stays))
    print(f"{len(stays)} stays in {len(files)} files, {changes} changes of file")
    if args.list:
        for file, function in stays:
            print(f"  {file:<32}{function}")


if __name__ == "__main__":
    main()
