import ast
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import REPOSITORY


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)


def test_importing_softlabels_is_fast_and_loads_no_framework() -> None:
    done = python(
        "import time, numpy; began = time.process_time(); import softlabels; took = time.process_time() - began\n"
        "import sys; heavy = {'tensorflow', 'keras', 'torch', 'jax', 'pandas'} & set(sys.modules)\n"
        "print(took, sorted(heavy))"
    )
    took, _, heavy = done.stdout.strip().partition(" ")
    assert heavy == "[]", done.stderr
    assert float(took) < 1.0


@pytest.mark.parametrize(
    "imports",
    [
        "import softlabels, importlib.util; importlib.util.find_spec('keras'); import keras",  # as TensorFlow does
        "import softlabels.loss.class_weights, softlabels; softlabels.AlphaSchedule; import keras",
        "import softlabels; softlabels.strip_embedding_head; import keras",
    ],
)
def test_keras_knows_the_saved_classes_whichever_is_imported_first(imports: str) -> None:
    names = ("DistillationLoss", "EmbeddingLoss", "HardLabelMetric", "StudentWithHead", "TeacherAgreement")
    done = python(
        f"import os; os.environ['KERAS_BACKEND'] = 'tensorflow'\n{imports}\n"
        f"print([keras.saving.get_registered_object('softlabels>' + name).__name__ for name in {names}])"
    )
    assert done.stdout == f"{list(names)}\n", done.stderr


def test_opening_a_store_and_joining_load_no_framework(birdnet_store) -> None:
    store, manifest = str(birdnet_store.storage.root), str(REPOSITORY / "data_manifest.csv")
    done = python(
        f"import sys, softlabels\nlabels = softlabels.open({store!r}).join({manifest!r})\n"
        "print(len(labels), {'tensorflow', 'keras'} & set(sys.modules))"
    )
    assert done.stdout.endswith("set()\n"), done.stderr


def test_every_public_name_is_there() -> None:
    import softlabels

    for _ in range(2):  # a submodule of the same name would take its place once it is imported
        for name in softlabels.__all__:
            assert not isinstance(getattr(softlabels, name), type(softlabels))
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        softlabels.nothing  # noqa: B018


def modules(package: str) -> list[Path]:
    return sorted((REPOSITORY / package).rglob("*.py"))


@pytest.mark.parametrize("path", modules("softlabels"), ids=lambda path: path.name)
def test_softlabels_never_imports_pipeline(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        assert not any(name.split(".")[0] == "pipeline" for name in names)


@pytest.mark.parametrize("path", modules("softlabels") + modules("pipeline"), ids=lambda path: path.name)
def test_no_private_name_crosses_a_file(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(("softlabels", "pipeline")):
            assert not any(alias.name.startswith("_") for alias in node.names)
