"""Keras teachers on the other backends of Keras, in processes that have no TensorFlow and no LiteRT."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import REPOSITORY, Corpus

LABEL = """
import sys
for name in ("tensorflow", "ai_edge_litert"):
    sys.modules[name] = None  # importing it is an ImportError
import hashlib, json, pathlib
import keras, numpy as np
import pipeline, softlabels
from pipeline import TeacherChoice
from pipeline.teachers.loading import load_teacher

rng = np.random.Generator(np.random.PCG64(0))
student = keras.Sequential([
    keras.layers.Input((800,)), keras.layers.Reshape((800, 1)), keras.layers.Conv1D(4, 9, 5, activation="relu"),
    keras.layers.GlobalAveragePooling1D(), keras.layers.Dropout(0.5), keras.layers.Dense(3),
])
student.set_weights([rng.normal(0, 0.5, each.shape).astype("f4") for each in student.get_weights()])
student.save("m.keras")
pathlib.Path("m.txt").write_text("Aus aus_Alpha\\nBus bus_Beta\\nCus cus_Gamma\\n", encoding="utf-8")
choice = TeacherChoice(
    kind="keras", model="m.keras", labels="m.txt", rate_hz=8000, activation="sigmoid", outputs="logits", batch_size=4,
    model_sha256=hashlib.sha256(pathlib.Path("m.keras").read_bytes()).hexdigest(),
)
done = pipeline.run("data_manifest.csv", "store", teacher=choice, jobs=int(sys.argv[1]),
                    options=pipeline.RunOptions(backend=sys.argv[2]))
windows = rng.normal(0, 0.1, (4, 800)).astype("f4")
kernel, bias, dense, last = (each.astype("f8") for each in student.get_weights())
frames = np.lib.stride_tricks.sliding_window_view(windows.astype("f8"), 9, axis=1)[:, ::5]  # (4, 159, 9)
expected = np.maximum(frames @ kernel[:, 0] + bias, 0).mean(axis=1) @ dense + last
found = load_teacher(choice).score(windows)
receipt = json.loads(next(pathlib.Path("store/receipts").glob("*.json")).read_text(encoding="utf-8"))
print(json.dumps({
    "labelled": done.labelled, "quarantined": done.quarantined, "error": float(np.abs(found - expected).max()),
    "runs_on": receipt["environment"]["runs_on"],
}))
"""
NO_GPU = """
import sys
from pathlib import Path
from pipeline.teachers.keras_model import keras_device
with keras_device(Path("m.keras"), "gpu"):
    pass
"""


def run(script: str, folder: Path, backend: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"needs the extra {backend}")
    environment = {**os.environ, "KERAS_BACKEND": backend, "PYTHONPATH": os.pathsep.join([str(REPOSITORY), *sys.path])}
    command = [sys.executable, "-c", script, *arguments]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=240, check=False
    )


@pytest.mark.backends
@pytest.mark.parametrize("backend", ["jax", "torch"])
@pytest.mark.parametrize("how", [("1", "sequential"), ("2", "loky")])
def test_a_keras_teacher_labels_on_another_backend_without_tensorflow(
    corpus: Corpus, backend: str, how: tuple[str, str]
) -> None:
    done = run(LABEL, corpus.folder, backend, *how)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert (found["labelled"], found["quarantined"]) == (14, 0)
    assert found["error"] < 1e-5
    assert found["runs_on"].lower().startswith({"jax": "jax ", "torch": "pytorch "}[backend])


@pytest.mark.backends
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_a_gpu_that_is_not_there_is_a_clear_error_on_every_backend(tmp_path: Path, backend: str) -> None:
    done = run(NO_GPU, tmp_path, backend)
    if done.returncode == 0:
        pytest.skip("there is a GPU")
    assert "--device gpu: expected a GPU that" in done.stderr
    assert "got only: cpu" in done.stderr
