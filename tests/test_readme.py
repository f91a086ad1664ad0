"""The README's Python runs as printed, and the student it trains is worth training."""

import re

import numpy as np
import pytest
from conftest import REPOSITORY, Corpus

import pipeline
import softlabels

BLOCKS = re.findall(r"```python\n(.*?)```", (REPOSITORY / "README.md").read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture(scope="module")
def readme(birdnet_store, tmp_path_factory) -> dict:
    """What the README's blocks define, run one after the other beside a labelled corpus."""
    folder = tmp_path_factory.mktemp("readme")
    (folder / "soft_labels").symlink_to(birdnet_store.storage.root)
    for name in ("data_manifest.csv", "tests"):
        (folder / name).symlink_to(REPOSITORY / name)
    names: dict = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for block in BLOCKS:
            exec(compile(block, "README.md", "exec"), names)
    return names


def divergence(teacher: np.ndarray, student: np.ndarray) -> float:
    """Mean over rows of the summed Bernoulli KL, (rows, classes) probabilities each, in nats."""
    p, q = (np.clip(x.astype(np.float64), 1e-7, 1 - 1e-7) for x in (teacher, student))
    return float((p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))).sum(axis=1).mean())


def test_the_students_agreement_with_the_teacher_beats_an_untrained_one_and_a_constant(readme: dict) -> None:
    import keras

    test, train = readme["test"], readme["train"]
    batches = softlabels.make_dataset(test, features=readme["features"], rate_hz=24_000)
    untrained = keras.models.clone_model(readme["student"])
    untrained.build(batches.element_spec[0].shape)
    teacher = test.soft()
    trained_says = readme["student"].predict(batches, verbose=0)
    untrained_says = untrained.predict(batches, verbose=0)
    constant = np.broadcast_to(train.soft().mean(axis=0), teacher.shape)
    away = {
        "trained": divergence(teacher, trained_says),
        "untrained": divergence(teacher, untrained_says),
        "constant": divergence(teacher, constant),
    }
    agrees = {
        "trained": np.mean(trained_says.argmax(axis=1) == teacher.argmax(axis=1)),
        "untrained": np.mean(untrained_says.argmax(axis=1) == teacher.argmax(axis=1)),
        "constant": np.mean(constant.argmax(axis=1) == teacher.argmax(axis=1)),
    }
    print(f"KL to the teacher on {len(teacher)} held-out windows: {away}; same top class: {agrees}")
    assert away["trained"] < 0.6 * min(away["untrained"], away["constant"])
    assert agrees["trained"] > 2 * max(agrees["untrained"], agrees["constant"])


def test_the_readmes_random_crops_carry_the_labels_of_their_time(readme: dict, monkeypatch) -> None:
    monkeypatch.chdir(REPOSITORY)
    x, y_true = next(iter(readme["crops"]))
    assert (x.shape, y_true.shape) == ((16, 280, 513), (16, 20))
    assert np.isfinite(y_true[:, 10:]).all()
    assert (x.numpy().sum(axis=(0, 1)) == 0).sum() >= 16, "SpecAugment masked a band"


def test_the_readmes_own_teacher_labels_a_corpus(readme: dict, corpus: Corpus, monkeypatch) -> None:
    module = type(pytest)("readme_teacher")
    module.my_teacher = readme["my_teacher"]
    monkeypatch.setitem(__import__("sys").modules, "readme_teacher", module)
    summary = pipeline.run(
        corpus.manifest,
        corpus.folder / "store",
        teacher="readme_teacher:my_teacher",
        options=pipeline.RunOptions(backend="sequential"),
    )
    assert (summary.labelled, summary.quarantined) == (6, 0)
    assert softlabels.open(corpus.folder / "store").activation == "softmax"


def test_every_file_the_readme_points_to_is_there() -> None:
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
    assert len(links) > 10
    assert [link for link in links if not (REPOSITORY / link).exists()] == []
