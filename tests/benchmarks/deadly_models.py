"""Model files made to kill their reader: how many do, and what becomes of a run that is given one.

    python tests/benchmarks/deadly_models.py --mutants 8000

Mutants of a small TFLite and a small ONNX file (one to four words replaced; seeded) are opened by the bare reader, each
in a forked process with 5 s. Those that kill or hang it are then given to `load_teacher`, which has to answer with a
TeacherError. About five minutes on one core.
"""

import argparse
import collections
import os
import random
import signal
import sys
import tempfile
from pathlib import Path

import ai_edge_litert.interpreter  # noqa: F401  for the forked processes
import numpy as np
import onnxruntime  # noqa: F401

sys.path.insert(0, str(Path(__file__).parent.parent))
from test_first_opening import TFLITE

from pipeline.models import first_opening
from pipeline.teachers.loading import load_teacher
from pipeline.teachers.opened_in_child import score_silence
from pipeline.teachers.teacher import TeacherChoice
from softlabels import TeacherError

WORDS = [b"\xff\xff\xff\x7f", b"\xff\xff\xff\xff", b"\0\0\0\0", b"\0\0\0\x80"]
PATIENCE_S = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mutants", type=int, default=8000, help="of each format")
    mutants = parser.parse_args().mutants
    first_opening.MOST_S = PATIENCE_S
    for kind, content in (("litert", TFLITE), ("onnx", small_onnx())):
        with tempfile.TemporaryDirectory() as folder:
            os.environ["XDG_CACHE_HOME"] = folder
            ends: collections.Counter[str] = collections.Counter()
            answers: collections.Counter[str] = collections.Counter()
            for seed in range(mutants):
                path = Path(folder, f"m.{kind}")
                path.write_bytes(mutant(content, seed))
                end = end_of_bare_reader(kind, path)
                ends[end] += 1
                if end not in ("opened", "refused"):
                    answers[answer_to(kind, path)] += 1
            print(f"{kind}: {mutants:,} mutants of {len(content):,} bytes, bare reader {dict(ends)}")
            print(f"{kind}: load_teacher on those that kill it or hang {dict(answers)}")


def mutant(content: bytes, seed: int) -> bytes:
    """One to four words replaced; the mark of a TFLite file stays, or it would be refused at once."""
    rng, changed = random.Random(seed), bytearray(content)
    for _ in range(rng.choice([1, 1, 2, 4])):
        start = rng.randrange(len(changed) - 3)
        changed[start : start + 4] = rng.choice([*WORDS, rng.randbytes(4)])
    if content[4:8] == b"TFL3":
        changed[4:8] = b"TFL3"
    return bytes(changed)


def end_of_bare_reader(kind: str, path: Path) -> str:
    """How a process ends that opens a file without any protection."""
    child = os.fork()
    if child == 0:
        signal.alarm(PATIENCE_S)
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(null, 2)
        try:
            score_silence(kind, path, shown="m", portable=False, device="cpu")
        except BaseException:
            os._exit(1)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(status):
        return signal.Signals(os.WTERMSIG(status)).name
    return "refused" if os.WEXITSTATUS(status) else "opened"


def answer_to(kind: str, path: Path) -> str:
    """What `load_teacher` answers to a file."""
    labels = path.with_suffix(".txt")
    labels.write_text("A a_x\nB b_y\nC c_z")
    described = {"labels": str(labels), "rate_hz": 8000, "activation": "sigmoid", "outputs": "logits"}
    try:
        load_teacher(TeacherChoice(kind=kind, model=str(path), **described))
    except TeacherError as e:
        return "its reader is named" if "its reader" in str(e) else "TeacherError"
    return "loaded"


def small_onnx() -> bytes:
    """16 samples -> 3 sums, one of them through a loop."""
    from onnx import TensorProto, helper, numpy_helper

    floats, value = TensorProto.FLOAT, helper.make_tensor_value_info
    body = helper.make_graph(
        [helper.make_node("Identity", ["c"], ["d"]), helper.make_node("Relu", ["v"], ["r"])],
        "body",
        [value("i", TensorProto.INT64, []), value("c", TensorProto.BOOL, []), value("v", floats, None)],
        [value("d", TensorProto.BOOL, []), value("r", floats, None)],
    )
    constants = {"w": np.ones((16, 3), np.float32), "n": np.array(2), "go": np.array(True), "s": np.array([4])}
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["xw"]),
        helper.make_node("ConstantOfShape", ["s"], ["zeros"]),
        helper.make_node("ReduceSum", ["zeros"], ["nothing"], keepdims=0),
        helper.make_node("Loop", ["n", "go", "xw"], ["looped"], body=body),
        helper.make_node("Add", ["looped", "nothing"], ["y"]),
    ]
    initializers = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "g", [value("x", floats, ["b", 16])], [value("y", floats, ["b", 3])], initializers)
    opsets = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()


if __name__ == "__main__":
    main()
