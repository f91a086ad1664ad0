"""What LiteRT spends on BirdNET's operators, as shipped and in both versions of folding, and how far from sgemm it is.

    OPENBLAS_NUM_THREADS=1 python tests/benchmarks/bench_folding.py [--rounds 15] [--recording FILE] [--portable]
        [--operators]

Every operator is timed alone, as a model of its own on one thread, the fastest of seven rounds; its weights are in the
cache then, so the sum is less than a pass takes. Whole passes of the three models take turns: medians. All times are
CPU times of this thread, so a busy machine disturbs them little. The limit is what a pass would take if its
multiplications and additions ran as fast as NumPy's float32 matrix product does here (--operators prints every
operator). With --recording (48 kHz, 120 s), the answers on its 40 windows are held against the file's.

Last, the hops between windows at which the frames of neighbours coincide, so that their spectra could be shared.
The last line of stdout is one JSON object; exits 1 where an answer is further off than 2e-4 or another class leads.
"""

import argparse
import collections
import json
import math
import platform
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from pipeline.teachers.birdnet import find_birdnet
from pipeline.teachers.folding.derived import folded_model
from pipeline.teachers.folding.graph import Graph
from pipeline.teachers.folding.rewrites import fold_spectra, framing_of
from pipeline.teachers.interpreter import answer, open_interpreter

MOST_DIFFERENCE = 2e-4
PRODUCTS = {"CONV_2D", "FULLY_CONNECTED", "DEPTHWISE_CONV_2D"}


def multiplications(graph: Graph, operator: Any) -> int:
    """Multiply-adds of a convolution or a layer; 0 of all else."""
    kind = graph.kind(operator)
    if kind not in PRODUCTS:
        return 0
    weights, results = graph.shape(operator.inputs[1]), math.prod(graph.shape(operator.outputs[0]))
    return results * math.prod(weights[1:3] if kind == "DEPTHWISE_CONV_2D" else weights[1:])


def alone(content: bytes) -> list[tuple[str, int, float, str]]:
    """(kind, multiply-adds, ms, shapes) of every operator, run as a model of its own."""
    graph = Graph(content)
    main, operators = graph._main, list(graph.operators)
    held = [(buffer, buffer.data) for buffer in graph._model.buffers]
    graph._model.signatureDefs, graph.content = None, b""  # so that no room is laid out for all of it
    found = []
    for operator in operators:
        graph._model.buffers = [buffer for buffer, _ in held]
        for buffer, data in held:
            buffer.data = data
        read = [int(i) for i in dict.fromkeys(operator.inputs) if i >= 0 and graph.constant(i) is None]
        graph.operators, graph.outputs = [operator], [int(tensor) for tensor in operator.outputs]
        main.inputs, main.outputs = np.array(read, np.int32), np.array(graph.outputs, np.int32)
        shapes = f"{[graph.shape(tensor) for tensor in read]} -> {graph.shape(graph.outputs[0])}"
        ms = best_ms(graph.to_bytes())
        found.append((graph.kind(operator), multiplications(graph, operator), ms, shapes))
    return found


def best_ms(content: bytes) -> float:
    interpreter = filled(content)
    once = timed_ms(interpreter, 1)
    count = max(3, int(4 / max(once, 1e-3)))
    return min(timed_ms(interpreter, count) for _ in range(7))


def filled(content: bytes, *, portable: bool = False) -> Any:
    """An interpreter that has run once, on noise."""
    interpreter, random = open_interpreter("bench", content, portable=portable), np.random.default_rng(0)
    for detail in interpreter.get_input_details():
        noise = random.uniform(0.01, 1, detail["shape"])
        interpreter.set_tensor(detail["index"], noise.astype(detail["dtype"]))
    interpreter.invoke()
    return interpreter


def timed_ms(interpreter: Any, count: int) -> float:
    began = time.thread_time()
    for _ in range(count):
        interpreter.invoke()
    return (time.thread_time() - began) / count * 1e3


def sgemm_gflops() -> float:
    """The best rate of NumPy's float32 product; as many threads as the environment allows it."""
    random = np.random.default_rng(0)
    a, b = (random.uniform(size=(1536, 1536)).astype(np.float32) for _ in range(2))
    a @ b
    seconds = []
    for _ in range(8):
        began = time.thread_time()
        a @ b
        seconds.append(time.thread_time() - began)
    return 2 * 1536**3 / min(seconds) / 1e9


def table(of: dict[str, list[tuple[str, int, float, str]]]) -> None:
    """One line a kind: how many there are, their multiply-adds in millions, and ms."""
    sums: dict[str, dict[str, list[float]]] = collections.defaultdict(lambda: {name: [0, 0, 0] for name in of})
    for name, operators in of.items():
        for kind, products, ms, _ in operators:
            for place, value in enumerate((1, products / 1e6, ms)):
                sums[kind][name][place] += value
    print("\n| operator |" + "".join(f" {name}: how many | millions | ms |" for name in of))
    print("|---|" + "---|" * 3 * len(of))
    for kind in sorted(sums, key=lambda kind: -max(values[2] for values in sums[kind].values())):
        cells = [f" {count:.0f} | {millions:.1f} | {ms:.3f} |" for count, millions, ms in sums[kind].values()]
        print(f"| {kind} |" + "".join(cells))


def whole_ms(models: dict[str, bytes], rounds: int, *, portable: bool) -> dict[str, float]:
    """Medians of whole passes, which take turns."""
    interpreters = {name: filled(content, portable=portable) for name, content in models.items()}
    times: dict[str, list[float]] = {name: [] for name in models}
    for _ in range(rounds):
        for name, interpreter in interpreters.items():
            times[name].append(timed_ms(interpreter, 4))
    return {name: float(np.median(values)) for name, values in times.items()}


def differences(models: dict[str, bytes], recording: Path, *, portable: bool) -> dict[str, float]:
    """The largest difference of a logit from the first model's on 40 windows; infinite where another class leads."""
    samples, rate_hz = soundfile.read(recording, dtype="float32")
    if rate_hz != 48_000 or samples.ndim != 1 or len(samples) < 40 * 144_000:
        raise SystemExit(f"'{recording}': expected 120 s, mono, at 48 kHz")
    windows, answers = samples[: 40 * 144_000].reshape(40, 1, -1), {}
    for name, content in models.items():
        interpreter = open_interpreter(name, content, portable=portable)
        answers[name] = np.concatenate([answer(interpreter, window) for window in windows])
    first = next(iter(answers.values()))
    agree = {name: (each.argmax(axis=1) == first.argmax(axis=1)).all() for name, each in answers.items()}
    return {name: float(np.abs(each - first).max()) if agree[name] else math.inf for name, each in answers.items()}


def hops(content: bytes) -> list[int]:
    """Samples from frame to frame, of every branch."""
    graph = Graph(content)
    return [framing.hop for layer in fold_spectra(graph) if (framing := framing_of(graph, layer))]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--recording", type=Path)
    parser.add_argument("--portable", action="store_true", help="whole passes with LiteRT's own kernels")
    parser.add_argument("--operators", action="store_true")
    args = parser.parse_args()
    shipped = find_birdnet()[0].read_bytes()
    models = {"shipped": shipped} | {f"fold {v}": folded_model("BirdNET", shipped, v)[0] for v in ("1", "2")}
    rate = sgemm_gflops()
    print(f"{platform.machine()}, Python {platform.python_version()}, sgemm {rate:.0f} GFLOP/s on this thread")
    of = {} if args.portable else {name: alone(content) for name, content in models.items() if name != "shipped"}
    if args.operators:
        for name, operators in of.items():
            for kind, products, ms, shapes in operators:
                print(f"{name} {kind:20}{products / 1e6:8.2f} M{ms:8.3f} ms  {shapes}")
    table(of)
    figures: dict[str, Any] = {"sgemm GFLOP/s": round(rate, 1)}
    print(
        "\n| model | ms a pass | of the shipped | millions | at sgemm's rate, ms | share |\n|---|---|---|---|---|---|"
    )
    passes = whole_ms(models, args.rounds, portable=args.portable)
    for name, ms in passes.items():
        graph = Graph(models[name])
        products = sum(multiplications(graph, operator) for operator in graph.operators)
        limit = 2 * products / rate / 1e6
        asked = f"{products / 1e6:.0f} | {limit:.2f} | {limit / ms:.0%}" if name != "shipped" else "open shapes | |"
        print(f"| {name} | {ms:.2f} | {ms / passes['shipped']:.3f} | {asked} |")
        figures[name] = {"ms": round(ms, 3)} | ({"limit ms": round(limit, 3)} if name != "shipped" else {})
    good = True
    if args.recording:
        for name, difference in differences(models, args.recording, portable=args.portable).items():
            print(f"{name}: logits of 40 windows {difference:.2g} from the file's at most")
            figures[name]["difference"], good = difference, good and difference <= MOST_DIFFERENCE
    each = hops(shipped)
    common = math.lcm(*each)
    print(f"frames every {each} samples: those of two windows that lie a multiple of {common:,} samples apart coincide")
    print(json.dumps({"good": good, "frame hops": each, "common hop": common, **figures}))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
