"""What ours is held against, each in a process of its own: bare LiteRT interpreters, and the official birdnet 1.3.1.

    python contenders.py bare MODEL WINDOWS.npy COUNT        score COUNT windows, once a line comes in on stdin
    python contenders.py peer MODEL LABELS OUT.parquet ...   full vectors of the files named on stdin, as Parquet
    python contenders.py logits MODEL LABELS OUT.npy         (windows, classes) of the one file named on stdin

Imports nothing of softlabels: `bare` is the memory to compare with, and the others run where `birdnet==1.3.1` is
installed (a virtual environment of its own: `pip install birdnet==1.3.1`).
"""

import sys
import time

import numpy as np

JOBS = 2


def bare(model: str, windows: str, count: str) -> None:
    """The file as shipped, one thread, on audio that is in memory (mapped, so that it is nobody's private memory)."""
    from ai_edge_litert.interpreter import Interpreter

    audio = np.load(windows, mmap_mode="r")  # (windows, samples) float32
    audio.sum()  # now it is in memory
    interpreter = Interpreter(model_path=model, num_threads=1)
    interpreter.allocate_tensors()
    inputs, outputs = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]
    print("ready", flush=True)
    sys.stdin.readline()
    began, cpu_began = time.perf_counter(), time.process_time()
    for k in range(int(count)):
        interpreter.set_tensor(inputs, audio[k % len(audio)][None])
        interpreter.invoke()
        interpreter.get_tensor(outputs)
    print(time.perf_counter() - began, time.process_time() - cpu_began, flush=True)


def predict(model: str, labels: str, files: list[str]):
    """The documented call of birdnet 1.3.1 that keeps every class."""
    import birdnet

    teacher = birdnet.load_custom("acoustic", "2.4", "tf", model, labels, library="litert")
    return teacher.predict(
        files, top_k=None, default_confidence_threshold=None, apply_sigmoid=False, n_workers=JOBS, show_stats=None
    )


def peer(model: str, labels: str, out: str) -> None:
    predict(model, labels, sys.stdin.read().split("\n")).to_parquet(out, silent=True)


def logits(model: str, labels: str, out: str) -> None:
    """birdnet gives classes by rank; here they are back in the order of its labels."""
    result = predict(model, labels, sys.stdin.read().split("\n"))
    ranked, ids = result.species_probs[0], result.species_ids[0]  # (windows, classes) each
    scattered = np.full_like(ranked, np.nan)
    np.put_along_axis(scattered, ids.astype(np.int64), ranked, axis=1)
    np.save(out, scattered)


if __name__ == "__main__":
    {"bare": bare, "peer": peer, "logits": logits}[sys.argv[1]](*sys.argv[2:])
