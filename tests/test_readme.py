"""Every README keeps its word: its Python runs as printed, its commands parse, its links lead somewhere."""

import contextlib
import io
import re
import shlex
import shutil
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from conftest import REPOSITORY, Corpus, run_cli

import pipeline
import softlabels
from pipeline.cli.commands import make_parser

ROOMS = sorted(
    str(file.parent.relative_to(REPOSITORY))
    for package in ("softlabels", "pipeline")
    for file in [REPOSITORY / package / "__init__.py", *(REPOSITORY / package).glob("*/__init__.py")]
)
READMES = ["README.md", *(f"{room}/README.md" for room in [*ROOMS, "tests"])]
PAGES = [*READMES, *(str(page.relative_to(REPOSITORY)) for page in (REPOSITORY / ".github").rglob("*.md"))]
Names = Callable[[str], dict]


def text_of(page: str) -> str:
    return (REPOSITORY / page).read_text(encoding="utf-8")


def blocks(page: str, language: str) -> Iterator[tuple[int, str]]:
    """(line, code) of each fenced block of a language."""
    text = text_of(page)
    for found in re.finditer(rf"```{language}\n(.*?)```", text, re.DOTALL):
        yield text.count("\n", 0, found.start(1)), found[1]


def has_python(page: str) -> bool:
    return any(blocks(page, "python"))


def commands(page: str) -> list[list[str]]:
    """The arguments of every `softlabels ...` in the shell blocks of a page; a variable counts as 1, or 100."""
    found = []
    for _, code in blocks(page, "sh"):
        lines = code.replace("\\\n", " ").replace("$SLURM_ARRAY_TASK_COUNT", "100")
        for line in re.split(r"\n|&&", re.sub(r"\$\w+", "1", lines)):
            words = shlex.split(line, comments=True)
            words = words[1:] if words[:1] == ["exec"] else words
            if words[:1] == ["softlabels"]:
                found.append(words[1:])
    return found


@pytest.fixture(scope="module")
def desk(birdnet_store, tmp_path_factory) -> Iterator[Path]:
    """The working folder: the repository as it is after `softlabels run`, a second teacher's store, a class list."""
    folder = tmp_path_factory.mktemp("readme")
    for store in ("soft_labels", "birdnet_labels", "perch_labels"):
        shutil.copytree(birdnet_store.storage.root, folder / store)
    for name in ("data_manifest.csv", "tests"):
        (folder / name).symlink_to(REPOSITORY / name)
    (folder / "my_classes.txt").symlink_to(REPOSITORY / "tests/corpus/classes.txt")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield folder


@pytest.fixture(scope="module")
def names(desk) -> Names:
    """README -> what its Python defines, run once, block after block; a room's goes on where the top README's ends."""

    @cache
    def run(page: str) -> dict:
        defined = {} if page == "README.md" else dict(run("README.md"))
        for line, code in blocks(page, "python"):
            exec(compile("\n" * line + code, str(REPOSITORY / page), "exec"), defined)
        return defined

    return run


@pytest.mark.parametrize("page", [page for page in READMES if has_python(page)])
def test_the_python_of_every_readme_runs_as_printed(page: str, names: Names) -> None:
    assert names(page)["store"].activation == "sigmoid"


def divergence(teacher: np.ndarray, student: np.ndarray) -> float:
    """Mean over rows of the summed Bernoulli KL, (rows, classes) probabilities each, in nats."""
    p, q = (np.clip(x.astype(np.float64), 1e-7, 1 - 1e-7) for x in (teacher, student))
    return float((p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))).sum(axis=1).mean())


def test_the_students_agreement_with_the_teacher_beats_an_untrained_one_and_a_constant(names: Names) -> None:
    import keras

    readme = names("README.md")
    test, train = readme["test"], readme["train"]
    batches = softlabels.make_dataset(test, features=readme["features"], rate_hz=24_000)
    untrained = keras.models.clone_model(readme["student"])
    untrained.build(batches.element_spec[0].shape)
    teacher = test.soft()
    answers = {
        "trained": readme["student"].predict(batches, verbose=0),
        "untrained": untrained.predict(batches, verbose=0),
        "constant": np.broadcast_to(train.soft().mean(axis=0), teacher.shape),
    }
    away = {name: divergence(teacher, answer) for name, answer in answers.items()}
    agrees = {name: np.mean(each.argmax(axis=1) == teacher.argmax(axis=1)) for name, each in answers.items()}
    print(f"KL to the teacher on {len(teacher)} held-out windows: {away}; same top class: {agrees}")
    assert away["trained"] < 0.6 * min(away["untrained"], away["constant"])
    assert agrees["trained"] > 2 * max(agrees["untrained"], agrees["constant"])


def test_the_readmes_random_crops_carry_the_labels_of_their_time(names: Names) -> None:
    x, y_true = next(iter(names("softlabels/labels/README.md")["crops"]))
    assert (x.shape, y_true.shape) == ((16, 280, 513), (16, 20))
    assert np.isfinite(y_true[:, 10:]).all()
    assert (x.numpy().sum(axis=(0, 1)) == 0).sum() >= 16, "SpecAugment masked a band"


def test_the_readmes_own_teacher_labels_a_corpus(names: Names, corpus: Corpus, monkeypatch) -> None:
    module = type(pytest)("readme_teacher")
    module.my_teacher = names("pipeline/teachers/README.md")["my_teacher"]
    monkeypatch.setitem(__import__("sys").modules, "readme_teacher", module)
    summary = pipeline.run(
        corpus.manifest,
        corpus.folder / "store",
        teacher="readme_teacher:my_teacher",
        options=pipeline.RunOptions(backend="sequential"),
    )
    assert (summary.labelled, summary.quarantined) == (6, 0)
    assert softlabels.open(corpus.folder / "store").activation == "softmax"


def test_the_readmes_figures_of_rooms_hold(names: Names) -> None:
    walk, labels, loss = (names(f"softlabels/{room}README.md") for room in ("", "labels/", "loss/"))
    assert walk["probabilities"].shape == (1, 6522)
    assert walk["y_true"].shape == (1, 20)
    assert np.isfinite(float(walk["loss"]))
    assert labels["distributions"].shape == (50, 11)
    assert np.isnan(labels["sums"]).sum() + (np.abs(labels["sums"] - 1) < 1e-3).sum() == 50
    assert loss["model"].count_params() == 650


def test_the_five_steps_of_the_readme_label_a_folder(tmp_path: Path) -> None:
    for name in ("cuckoo", "great-tit"):
        for file in sorted((REPOSITORY / "tests/corpus").glob(f"{name}-0[1-4].flac")):
            (tmp_path / "recordings" / name).mkdir(parents=True, exist_ok=True)
            shutil.copy(file, tmp_path / "recordings" / name)
    steps = commands("README.md")[1:]
    assert [step[0] for step in steps] == ["manifest", "run", "run", "report", "manifest"]
    clip_id = "great-tit/great-tit-01.flac"
    downloaded = f"verdict,class,clip_id,label,labels\nwrong,Parus major_Great Tit,{clip_id},great-tit,great-tit\n"
    (tmp_path / "marks.csv").write_text(downloaded)
    for step in steps:
        done = run_cli(*step, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    assert len(softlabels.open(tmp_path / "soft_labels")) == 8
    assert (tmp_path / "report.html").stat().st_size > 100_000
    labels = {clip.clip_id: clip.labels for clip in softlabels.read_manifest(tmp_path / "data_manifest.csv")}
    assert labels[clip_id] == ("Parus major_Great Tit",)


@pytest.mark.parametrize("page", [page for page in PAGES if commands(page)])
def test_every_command_in_a_page_parses(page: str) -> None:
    for arguments in commands(page):
        with contextlib.redirect_stderr(io.StringIO()) as complaint:
            try:
                make_parser().parse_args(arguments)
            except SystemExit:
                pytest.fail(f"{page}: softlabels {shlex.join(arguments)}: {complaint.getvalue()}")


def test_every_command_and_every_flag_stands_in_the_pipelines_readme(capsys) -> None:
    known = re.findall(r"^    ([a-z]+)\b", make_parser().format_help(), re.MULTILINE)
    assert len(known) == 10
    top, room = text_of("README.md"), text_of("pipeline/README.md")
    for command in known:
        with pytest.raises(SystemExit):
            make_parser().parse_args([command, "--help"])
        flags = set(re.findall(r"^  (?:-\w.*?, )?(--[a-z0-9-]+)", capsys.readouterr().out, re.MULTILINE))
        assert f"softlabels {command}" in top
        assert f"softlabels {command}" in room
        assert [flag for flag in sorted(flags) if not re.search(rf"{flag}\b(?!-)", room)] == []


@pytest.mark.parametrize("page", PAGES)
def test_every_link_of_a_page_leads_to_a_file_and_a_heading(page: str) -> None:
    for link in re.findall(r"\]\(([^)]+)\)", text_of(page)):
        if "://" in link:
            continue
        path, _, heading = link.partition("#")
        target = (REPOSITORY / page).parent / path if path else REPOSITORY / page
        assert target.exists(), f"{page}: {link}"
        headings = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), re.MULTILINE) if heading else []
        assert not heading or heading in [re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in headings]


def test_the_top_readme_is_short_and_tells_a_newcomer_what_counts_at_once() -> None:
    text = text_of("README.md")
    assert text.count("\n") <= 150
    assert len(text.encode()) <= 12_000
    start = "\n".join(text.splitlines()[:70])
    assert [each for each in ("Does it help me?", "## Install", "in five steps") if each not in start] == []


@pytest.mark.parametrize("room", ROOMS)
def test_every_room_has_its_readme_and_the_top_readme_leads_there(room: str) -> None:
    assert (REPOSITORY / room / "README.md").is_file()
    assert f"({room}/README.md)" in text_of("README.md")
