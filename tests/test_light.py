"""What training needs to have installed: the list in the README is enough, and what needs more says so."""

import importlib.metadata
import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

from conftest import REPOSITORY
from packaging.requirements import Requirement
from without import KERAS

import softlabels

TESTS = Path(__file__).parent
README = (REPOSITORY / "softlabels/README.md").read_text(encoding="utf-8")


def light_list() -> list[str]:
    """What the README installs beside softlabels alone."""
    (line,) = re.findall(r"pip install --no-deps \S+ && pip install (.*)", README)
    return line.split()


def with_requirements(names: list[str]) -> set[str]:
    """Distributions by normalised name, and all that they require; without those that are not installed."""
    found: set[str] = set()
    waiting = [Requirement(name) for name in names]
    while waiting:
        wanted = waiting.pop()
        name = re.sub(r"[-_.]+", "-", wanted.name).lower()
        if name in found or (wanted.marker and not wanted.marker.evaluate({"extra": ""})):
            continue
        try:
            waiting += [Requirement(each) for each in importlib.metadata.requires(name) or []]
        except importlib.metadata.PackageNotFoundError:
            continue
        found.add(name)
    return found


def others(kept: set[str]) -> list[str]:
    """Top-level packages that none of these distributions brings."""
    own = {"softlabels", "pipeline"}
    brought_by = importlib.metadata.packages_distributions()
    normal = {top: {re.sub(r"[-_.]+", "-", name).lower() for name in names} for top, names in brought_by.items()}
    ours = {top for top, names in normal.items() if names & kept} | own
    return sorted(top for top in set(normal) - ours if top.isidentifier() and not top.startswith("_"))


def train(store, folder: Path, packages: list[str]) -> dict:
    """What light_training.py reports of a store in the folder of its manifest."""
    root = store.storage.root
    manifest = root.parent / "data_manifest.csv"
    command = [sys.executable, str(TESTS / "light_training.py"), str(root), str(manifest), *packages]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def needing(packages: str) -> set[str]:
    """The public names in the README's row of what needs these packages; methods left out."""
    (row,) = re.findall(rf"^\| (.*) \| {packages} \|$", README, re.MULTILINE)
    return set(re.findall(r"`(\w+)`", row)) & set(softlabels.__all__)


def test_the_readmes_light_list_is_enough_to_train_and_what_needs_more_says_so(store, tmp_path: Path) -> None:
    report = train(store, tmp_path, others(with_requirements(light_list())))
    assert report["used"] == ["none", "none"]
    assert report["shapes"] == [[4, 400], [4, 6]]
    seldom = {"scipy", "torch"}  # what fits, where there is enough to fit on; PyTorch, whether it is installed or not
    assert set(light_list()) - set(report["loaded"]) | {"torch"} == seldom
    assert not {*KERAS, "joblib", "tqdm", "ai_edge_litert"} & set(report["loaded"])
    assert set(report["absent"]) == needing("keras, tensorflow") | needing("keras and one of its backends")
    for name, said in report["absent"].items():
        wanted = "(keras|tensorflow)" if name in needing("keras, tensorflow") else "keras"
        assert re.fullmatch(
            rf"softlabels\.{name} needs {wanted}: `pip install .*`; for PyTorch .*softlabels.torch", said
        )


def test_without_pytorch_its_door_says_what_to_install() -> None:
    code = "from without import hide; hide('torch'); import softlabels; softlabels.torch"
    done = subprocess.run([sys.executable, "-c", code], cwd=TESTS, capture_output=True, text=True, check=False)
    wanted = "ImportError: softlabels.torch needs PyTorch: `pip install torch`, or `pip install softlabels[torch]`"
    assert done.stderr.splitlines()[-1] == wanted
