"""Every public function has an example in its docstring, and it runs as it stands there."""

import doctest
import inspect

import numpy as np
import pytest
from conftest import EMBEDDED, Corpus, label

import pipeline
import softlabels

CLASSES = (softlabels.SoftLabelStore, softlabels.JoinedLabels)
ERRORS = tuple(name for name in softlabels.__all__ if name.endswith("Error"))


def public() -> dict[str, object]:
    """name -> what is public and can be called: functions, classes, and the methods of stores and labels."""
    found = {f"softlabels.{name}": getattr(softlabels, name) for name in softlabels.__all__ if name not in ERRORS}
    found |= {f"pipeline.{name}": getattr(pipeline, name) for name in ("run", "finish")}
    for kind in CLASSES:
        for name, member in inspect.getmembers(kind, inspect.isfunction):
            if not name.startswith("_"):
                found[f"{kind.__name__}.{name}"] = member
    for name in ("SoftLabelStore", "JoinedLabels", "Clip"):  # got from somewhere, not made
        del found[f"softlabels.{name}"]
    return found


INTERNAL = {  # of a store or of labels: for the rest of this package, not for users
    *(f"SoftLabelStore.{name}" for name in dir(softlabels.SoftLabelStore)),
    "JoinedLabels.open",
    "JoinedLabels.sound_of",
    "JoinedLabels.sounds_of",
    "JoinedLabels.places",
    "JoinedLabels.row_sounds",
    "JoinedLabels.pooled_clips",
    "JoinedLabels.runs",
    "JoinedLabels.cropped",
} - {f"SoftLabelStore.{name}" for name in ("read", "take", "to_pandas", "per_clip", "join", "embeddings")}


@pytest.fixture
def names(corpus: Corpus, tmp_path, monkeypatch) -> dict[str, object]:
    """What examples may use: a store of six clips, its labels, another teacher's store."""
    store = label(corpus, teacher=EMBEDDED)
    monkeypatch.chdir(corpus.folder)
    other = pipeline.run(
        corpus.manifest, "other", teacher="standin:teacher", options=pipeline.RunOptions(backend="sequential")
    )
    return {
        "softlabels": softlabels,
        "pipeline": pipeline,
        "np": np,
        "store": store,
        "other": softlabels.open(other.store),
        "labels": store.join("data_manifest.csv", canary=False),
    }


@pytest.mark.parametrize("name", sorted(public().keys() - INTERNAL))
def test_the_example_runs(name: str, names: dict[str, object]) -> None:
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    (example,) = doctest.DocTestFinder(recurse=False).find(public()[name], name, globs=names) or (None,)
    assert example is not None, f"{name} has no docstring"
    assert example.examples, f"{name} has no example"
    said: list[str] = []
    result = doctest.DocTestRunner(optionflags=flags).run(example, out=said.append)
    assert result.failed == 0, "".join(said)
