"""The loss on every Keras backend, each in a process of its own: same numbers, same schedule, same files."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
BACKENDS = ["tensorflow", "jax", "torch"]
pytestmark = pytest.mark.backends


def run_on(backend, script, *arguments):
    """Run a script of this folder under one backend and return the JSON object it prints last."""
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed; pip install 'softlabels[{backend}]'")
    paths = [str(TESTS), str(TESTS.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {
        **os.environ,
        "KERAS_BACKEND": backend,
        "PYTHONPATH": os.pathsep.join(paths),
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "JAX_PLATFORMS": "cpu",
    }
    done = subprocess.run(
        [sys.executable, str(TESTS / script), *arguments], env=environment, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_whole_grid_equals_the_reference_on_every_backend(backend):
    for mode, (cases, loss_error, gradient_error) in run_on(backend, "loss_grid.py").items():
        assert cases == 336, mode  # 2 activations, 4 class lists, 2 kinds of output, 3 types, 7 T
        assert loss_error <= 1.0, mode
        assert gradient_error <= 1.0, mode


@pytest.mark.parametrize("backend", BACKENDS)
def test_one_weight_per_class_equals_the_reference_on_every_backend_and_after_saving(backend, tmp_path):
    report = run_on(backend, "loss_class_weights.py", str(tmp_path))
    assert max(report.pop("reloaded").values()) <= 1e-6
    for mode, ways in report.items():
        assert len(ways) == 36, mode  # 5 class lists, 7 ways to hold weights, and a global of seven
        assert max(max(errors) for errors in ways.values()) <= 1.0, mode


@pytest.mark.parametrize("backend", BACKENDS)
def test_training_schedules_and_saved_models_work_on_every_backend(backend, tmp_path):
    report = run_on(backend, "loss_training.py", str(tmp_path))
    assert report["alphas"] == [1.0, 0.5, 0.0]
    assert report["reloaded_difference"] <= 1e-6
    for seen, expected in zip(report["epoch_losses"], report["expected_losses"], strict=True):
        assert seen == pytest.approx(expected, rel=1e-5)
    assert report["weights_changed_by_weight_zero_rows"] == 0.0


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_embedding_loss_and_head_work_on_every_backend(backend, tmp_path):
    report = run_on(backend, "loss_embedding.py", str(tmp_path))
    assert report["row_error"] <= 1e-6
    assert report["losses"][-1] < report["losses"][0]
    assert report["began"][0] < 0.5 * report["began"][1], "by regression, at random"
    assert (report["same"], report["finite"]) == (True, True)
    assert report["beside"] == 0
