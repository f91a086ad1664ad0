"""Lines on the main path: from a manifest to a gradient, what of the package a reader would have to read.

    python tests/benchmarks/main_path.py

Runs open, join, make_dataset and one gradient of the loss on a tiny store, and counts the functions and methods that
are entered, with their lines, and the files that they stand in, with all of theirs. Works on the tree before it had
rooms too.
"""

import ast
import os
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from types import FrameType

import numpy as np
import tensorflow as tf

import softlabels

RECORDED = Path(os.environ.get("RECORDED", Path(__file__).resolve().parent.parent / "recorded"))
PACKAGE = Path(softlabels.__file__).parent


def main_path(folder: str) -> None:
    """From a manifest to a gradient."""
    labels = softlabels.open(RECORDED / "store").join(
        RECORDED / "data_manifest.csv", root=RECORDED, missing="drop", cache_dir=folder
    )
    loss = softlabels.DistillationLoss.for_labels(labels, from_logits=True)
    for x, y_true in softlabels.make_dataset(labels, batch_size=4, workers=0):
        weights = tf.Variable(np.full((x.shape[1], len(labels.classes)), 1e-3, np.float32))
        with tf.GradientTape() as tape:
            value = loss(y_true, x @ weights)
        tape.gradient(value, weights)


def main() -> None:
    entered: dict[str, set[int]] = defaultdict(set)

    def note(frame: FrameType, event: str, _argument: object) -> None:
        path = frame.f_code.co_filename
        if event == "call" and path.startswith(f"{PACKAGE}/") and not frame.f_code.co_name.startswith("<"):
            entered[path].add(frame.f_code.co_firstlineno)

    import threading

    with tempfile.TemporaryDirectory() as folder:
        threading.setprofile(note)
        sys.setprofile(note)
        main_path(folder)
        sys.setprofile(None)
        threading.setprofile(None)
    lines = functions = 0
    for path, first_lines in entered.items():
        for node in ast.walk(ast.parse(Path(path).read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                begin = min([node.lineno, *(each.lineno for each in node.decorator_list)])
                if begin in first_lines:
                    functions, lines = functions + 1, lines + node.end_lineno - begin + 1
    files = {path: Path(path).read_text(encoding="utf-8").count("\n") for path in entered}
    print(f"{functions} functions of {lines} lines, in {len(files)} files of {sum(files.values())} lines")


if __name__ == "__main__":
    main()
