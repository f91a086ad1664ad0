"""The report: what it counts, whom it suspects, and a page that needs nothing but itself."""

import csv
import html.parser
import importlib
import importlib.util
import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import REPOSITORY, Corpus, label, run_cli

import pipeline
import softlabels
from pipeline.cli.commands import main
from pipeline.report.accuracy import measure_accuracy
from pipeline.report.clip_evidence import ClipEvidence, HumanLabels
from pipeline.report.confusions import ConfusionMatrix, Confusions, leaf_order
from pipeline.report.duplicates import Duplicates
from pipeline.report.listening import Listening, axis_marks, spectrogram
from pipeline.report.report import ReportOptions, report
from pipeline.report.survey import survey
from pipeline.report.suspects import find_suspects
from softlabels import Clip, read_manifest
from softlabels.errors import ManifestError, StoreError

figures = pytest.importorskip(
    "pipeline.report.figures", reason="the extra report is not installed", exc_type=ImportError
)
NAMES = ("Aus aus_Alpha", "Bus bus_Beta", "Cus cus_Gamma")


def surveyed(store: softlabels.SoftLabelStore, corpus: Corpus) -> ClipEvidence:
    labels = HumanLabels.of(read_manifest(corpus.manifest), store.index, store.classes)
    return survey(store, labels, lambda windows: None).evidence


def page_of(store: softlabels.SoftLabelStore, corpus: Corpus, **options) -> str:
    output = corpus.folder / "report.html"
    report(store, output, ReportOptions(manifest=corpus.manifest, **options))
    return output.read_text(encoding="utf-8")


class Tags(html.parser.HTMLParser):
    """Every tag with its attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attributes)))


def test_the_page_needs_nothing_but_itself(store, corpus) -> None:
    tags = Tags(page_of(store, corpus)).found
    fetched = [
        values[name] for _, values in tags for name in ("src", "href", "xlink:href", "srcset") if values.get(name)
    ]
    assert len(fetched) > 10
    assert all(value.startswith(("data:", "#")) for value in fetched)
    assert not {tag for tag, _ in tags} & {"link", "iframe", "object", "embed", "base"}
    assert sum(tag == "audio" for tag, _ in tags) >= 3


def test_names_are_text_and_nothing_else(corpus) -> None:
    """Class names and clip ids come from other people; what turns or hides text is shown as an escape."""
    evil = '<script>alert("x")</script>_$\\frac{1}{0}$ & <b>\u202e'
    row = corpus.manifest.read_text().splitlines()[1].replace("c0,", '"<img src=x onerror=alert(1)>\u202e",', 1)
    text = corpus.manifest.read_text().replace("Aus aus_Alpha", NAMES[1]).splitlines()
    corpus.write_manifest("\n".join([text[0], row.replace("Aus aus_Alpha", NAMES[1]), *text[2:]]) + "\n")
    store = label(corpus)
    object.__setattr__(store, "classes", softlabels.ClassList((evil, *NAMES[1:])))
    page = page_of(store, corpus)
    tags = Tags(page).found
    assert sum(tag == "script" for tag, _ in tags) == 1
    assert not [values for tag, values in tags if tag == "img" and not values["src"].startswith("data:")]
    assert "&lt;script&gt;" in page
    assert "frac{1}{0}$ &amp; &lt;b&gt;\\u202e" in page
    for_programs = [values.get(name) or "" for _, values in tags for name in ("data-row", "data-has", "value")]
    assert page.count("\u202e") == sum(text.count("\u202e") for text in for_programs) > 0
    assert any(text.startswith("<img src=x onerror=alert(1)>\u202e,") for text in for_programs)


def test_what_was_quarantined_is_told_with_its_reason(corpus) -> None:
    (corpus.folder / "c3.wav").write_bytes(b"RIFF, but not really")
    page = page_of(label(corpus), corpus)
    assert "unreadable" in page or "unsupported-container" in page
    assert "<dt>quarantined</dt><dd>1</dd>" in page


def test_sound_is_found_as_a_join_finds_it_and_a_recording_that_is_gone_leaves_a_note(
    store, corpus, tmp_path, monkeypatch
) -> None:
    """The folder of the run is gone, and the manifest says where the recordings are now: below its own."""
    (corpus.folder / "2024").mkdir()
    for i in range(6):
        (corpus.folder / f"c{i}.wav").rename(corpus.folder / "2024" / f"c{i}.wav")
    corpus.write_manifest(re.sub(r"c(\d)\.wav", r"2024/c\1.wav", corpus.manifest.read_text()))
    moved = Corpus(corpus.folder.rename(tmp_path / "moved"))
    monkeypatch.chdir(tmp_path)
    store = softlabels.open(moved.folder / "store")
    page = page_of(store, moved)
    assert "no sound" not in page
    assert "from 0.00&nbsp;s of 2024/c2.wav" in page
    for path in moved.folder.glob("2024/*.wav"):
        path.unlink()
    page = page_of(store, moved)
    assert "<audio" not in page
    assert "no sound: missing" in page


def test_sound_and_picture_are_of_the_very_window(store, corpus) -> None:
    import base64
    import io

    import soundfile

    window = store.index.spans_of(["c3"])[0, 0] + 2
    extract = Listening(store, corpus.folder).extract(int(window))
    heard, rate_hz = soundfile.read(io.BytesIO(base64.b64decode(extract.sound.partition(",")[2])))
    original, _ = soundfile.read(corpus.folder / "c3.wav")
    cut = original[2 * 800 : 3 * 800]
    assert (rate_hz, len(heard), extract.seconds, extract.top_khz) == (8000, 800, 0.1, 4.0)
    np.testing.assert_allclose(heard / np.abs(heard).max(), cut / np.abs(cut).max(), atol=1e-3)


def test_a_tone_is_a_line_at_its_height() -> None:
    rate_hz = 24_000
    tone = np.sin(2 * np.pi * 3000 * np.arange(2 * rate_hz) / rate_hz).astype(np.float32)
    picture = spectrogram(tone)
    assert picture.shape[0] == 257
    assert picture.shape[1] <= 320
    assert (picture.min(), picture.max()) == (0, 1)
    assert set(picture.argmax(axis=0).tolist()) == {256 - 3000 * 512 // rate_hz}  # rows count from the top
    assert spectrogram(np.zeros(100, np.float32)).shape == (257, 1)


def test_a_clip_counts_with_the_highest_of_its_windows(store, corpus) -> None:
    evidence = surveyed(store, corpus)
    best = store.per_clip()
    assert [clip.clip_id for clip in evidence.labels.clips] == ["c0", "c1", "c2"]
    np.testing.assert_array_equal(evidence.highest, best.loc[["c0", "c1", "c2"]].to_numpy())
    np.testing.assert_array_equal(evidence.hard(), [[1, 0, 0], [0, 1, 1], [0, 0, 0]])
    entries = list(zip(evidence.entry_clip.tolist(), evidence.entry_class.tolist(), strict=True))
    assert entries == [(0, 0), (1, 1), (1, 2)]
    np.testing.assert_array_equal(evidence.entry_best, [best.loc[f"c{clip}"].iloc[c] for clip, c in entries])
    others = [best.loc["c0"].iloc[1:], best.loc["c1"].iloc[:1], best.loc["c2"]]
    np.testing.assert_array_equal(evidence.other, [other.max() for other in others])
    for clip, window in enumerate(evidence.other_window):
        frame = store.to_pandas().set_index(["clip_id", "window_index"])
        key = (f"c{clip}", int(store.index.window_index[window]))
        assert frame.probabilities[key][evidence.other_class[clip]] == evidence.other[clip]


@pytest.mark.parametrize("unsure", [1, 2])
def test_an_unsure_class_counts_neither_for_nor_against(corpus, unsure: int) -> None:
    corpus.write_manifest(corpus.manifest.read_text().replace(NAMES[0], f"{NAMES[0]};?{NAMES[unsure]}"))
    evidence = surveyed(label(corpus), corpus)
    expected = np.array([1.0, 0, 0])
    expected[unsure] = np.nan
    np.testing.assert_array_equal(evidence.hard()[0], expected)
    assert evidence.other_class[0] == 3 - unsure


def test_accuracy_is_of_the_clips_that_were_annotated(store, corpus) -> None:
    accuracy = measure_accuracy(surveyed(store, corpus), store.classes)
    alpha = next(c for c in accuracy.classes if c.name == NAMES[0])
    best = store.per_clip()[NAMES[0]]
    assert (alpha.clips, alpha.present) == (1, pytest.approx(best["c0"]))
    assert alpha.absent == pytest.approx((best["c1"] + best["c2"]) / 2)
    assert alpha.average_precision == pytest.approx(1 / (1 + (best[["c1", "c2"]] >= best["c0"]).sum()))
    assert sum(b.count for b in accuracy.bins) == 9


def test_labels_that_the_teacher_has_no_class_for_are_named(store, corpus) -> None:
    corpus.write_manifest(corpus.manifest.read_text().replace(NAMES[0], "Xus xus_Chi"))
    assert surveyed(store, corpus).labels.unknown == {"Xus xus_Chi": (1, "")}
    others = ";".join(["Cus cuss_Gammas", *(f"X{i} x{i}_Y{i}" for i in range(22))])
    corpus.write_manifest(corpus.manifest.read_text().replace("Xus xus_Chi", others))
    page = page_of(store, corpus)
    assert "so nothing is known of 1 clip but its other labels: Cus cuss_Gammas (1 clip; nearest name: " in page
    assert "nearest name: Cus cus_Gamma), " in page
    assert "Y6 (1 clip) and 3 more.</p>" in page


def test_confidence_is_what_a_loop_finds(store) -> None:
    sure = survey(store, None, lambda windows: None).confidence
    rows = {(r.clip_id, r.window_index): r.probabilities.astype(np.float64) for r in store.to_pandas().itertuples()}
    names = store.index.clips["clip_id"].to_pylist()
    keys = [(names[clip], int(w)) for clip, w in zip(store.index.stored_clip, store.index.window_index, strict=True)]
    for i, key in enumerate(keys):
        p = rows[key]
        assert sure.top[i] == np.float32(p.max())
        assert sure.entropy[i] == pytest.approx(-sum(x * np.log(x) + (1 - x) * np.log(1 - x) for x in p), rel=1e-3)
    for c in range(3):
        best = max(keys, key=lambda key: rows[key][c])
        assert keys[sure.best_window[c]] == best
        assert sure.heard[c] == sum(p[c] >= 0.5 for p in rows.values())


def test_confusions_are_means_where_a_class_is_on_top() -> None:
    rng = np.random.default_rng(0)
    p = rng.beta(0.5, 2, (300, 5)).astype(np.float32)
    collected = Confusions(5)
    for part in np.array_split(p, 7):
        collected.add(np.arange(len(part)), part)
    matrix = collected.matrix()
    top = p.argmax(axis=1)
    sure = p.max(axis=1) >= 0.1
    for row, (c, count) in enumerate(zip(matrix.rows, matrix.windows, strict=True)):
        here = p[(top == c) & sure]
        assert count == len(here)
        np.testing.assert_allclose(matrix.mean[row], here[:, list(matrix.columns)].mean(axis=0), rtol=1e-6)
    assert set(matrix.columns) == set(range(5))
    assert Confusions(3).matrix() is None


def test_dollars_in_a_name_are_no_formula() -> None:
    matrix = ConfusionMatrix(rows=(0, 1), columns=(0, 1), windows=(1, 2), mean=np.eye(2))
    drawn = re.sub("<!--.*?-->", "", figures.heat_map(matrix, ["A a_$x^2$ & <b>", "B b_Beta"]))
    assert drawn.count("$x^2$ &amp; &lt;b&gt;") == 2


def test_similar_rows_stand_side_by_side() -> None:
    order = leaf_order(np.array([[1, 0, 0.1], [0, 1, 0], [0.9, 0, 0.2], [0.1, 0.8, 0]]))
    assert {tuple(sorted(order[:2])), tuple(sorted(order[2:]))} == {(0, 2), (1, 3)}


def test_the_same_audio_under_two_names_is_a_duplicate(corpus) -> None:
    (corpus.folder / "again.wav").write_bytes((corpus.folder / "c3.wav").read_bytes())
    corpus.write_manifest(corpus.manifest.read_text() + "again,again.wav,,test\n")
    store = label(corpus)
    (found,) = survey(store, None, lambda windows: None).duplicates
    assert (set(found.clip_ids), found.clips, found.windows) == ({"c3", "again"}, 2, 8)
    alone = Duplicates(4)
    alone.add(np.arange(4), np.tile(np.float32([0.1, 0.2, 0.3]), (4, 1)))
    assert not alone.groups(_OneClip())  # a clip that repeats itself is none


class _OneClip:
    stored_clip = np.zeros(4, np.int32)


def doubted(own: list[float], other: list[float], checked: dict[int, str] | None = None) -> list[str]:
    """The suspects among clips with one label each, all the same, of which the teacher says so much."""
    count, extra = len(own), {i: (("label_checked", text),) for i, text in (checked or {}).items()}
    clips = tuple(Clip(clip_id=f"c{i}", path="x", labels=(NAMES[0],), extra=extra.get(i, ())) for i in range(count))
    evidence = SimpleNamespace(
        labels=SimpleNamespace(clips=clips, classes=np.array([0]), names={NAMES[0]: 0}),
        entry_clip=np.arange(count),
        entry_class=np.zeros(count, np.int64),
        entry_best=np.float32(own),
        other=np.float32(other),
        other_class=np.ones(count, np.int64),
        other_window=np.arange(count),
    )
    index = SimpleNamespace(window_index=np.zeros(count), start_s=lambda entries: 0.0)
    return [suspect.clip_id for suspect in find_suspects(evidence, index, NAMES)]


def test_a_label_is_suspected_where_the_teacher_prefers_another_class() -> None:
    assert doubted([0.9, 0.1, 0.4], [0.1, 0.9, 0.5]) == ["c1", "c2"]


def test_a_label_that_somebody_confirmed_is_no_suspect_again() -> None:
    said = [0.9, 0.1, 0.4, 0.3], [0.1, 0.9, 0.5, 0.9]
    assert doubted(*said, {1: NAMES[0], 2: NAMES[1]}) == ["c3", "c2"]
    assert doubted(*said, {1: "", 3: f"Xus xus_Chi; {NAMES[0]}"}) == ["c1", "c2"]


def test_a_species_that_the_teacher_never_knows_makes_no_suspects_but_those_beyond_the_usual() -> None:
    assert doubted([0.1] * 6, [0.8] * 6) == []
    assert doubted([0.1] * 6 + [0.01], [0.8] * 6 + [0.99]) == ["c6"]
    assert len(doubted([0.1] * 4, [0.8] * 4)) == 4, "of four clips nothing is usual yet"


def test_coverage_and_another_store_are_sections_of_their_own(store, corpus) -> None:
    assert 'id="coverage"' not in page_of(store, corpus)
    (corpus.folder / "list.txt").write_text(f"{NAMES[1]}\nNobody nobody_Zeta\n")
    page = page_of(store, corpus, classes=corpus.folder / "list.txt", other=store)
    assert "1 of 2 classes are found" in page
    assert "Not found, so NaN in training: Nobody nobody_Zeta." in page
    assert "<td>100.0 %</td>" in page


def test_without_labels_there_is_a_page_all_the_same(store, corpus) -> None:
    done = report(store, corpus.folder / "report.html")
    page = (corpus.folder / "report.html").read_text()
    assert (done.annotated, done.suspects, done.bytes) == (0, 0, len(page.encode()))
    assert 'id="disagree"' not in page
    corpus.write_manifest("clip_id,path\nc0,c0.wav\n")
    assert "annotates no clip" in page_of(store, corpus)


def test_the_manifest_of_another_corpus_is_refused(store, corpus) -> None:
    corpus.write_manifest("clip_id,path,label\nother,c0.wav,Aus aus_Alpha\n")
    with pytest.raises(ManifestError, match="has none, such as 'other'"):
        page_of(store, corpus)


def test_an_empty_store_has_nothing_to_show(corpus) -> None:
    for path in corpus.folder.glob("*.wav"):
        path.write_bytes(b"")
    store = label(corpus)
    with pytest.raises(StoreError, match="no window is labelled"):
        page_of(store, corpus)


def test_a_store_to_compare_with_that_is_only_planned_is_refused(store, corpus, monkeypatch, capsys) -> None:
    monkeypatch.chdir(corpus.folder)
    planned = corpus.folder / "planned"
    shutil.copytree(store.storage.root, planned)
    for folder in ("receipts", "shards"):
        shutil.rmtree(planned / folder)
    assert main(["report", str(store.storage.root), "--compare", str(planned)]) == 2
    unlabelled = f"'{planned}': no clip that both stores have is labelled in it; `softlabels run` labels them"
    assert capsys.readouterr().err.endswith(f"softlabels report: {unlabelled}\n")
    assert not (corpus.folder / "report.html").exists()


def test_a_store_that_is_only_planned_is_refused_whatever_it_is_compared_with(
    store, corpus, monkeypatch, capsys
) -> None:
    monkeypatch.chdir(corpus.folder)
    planned = corpus.folder / "planned"
    shutil.copytree(store.storage.root, planned)
    for folder in ("receipts", "shards"):
        shutil.rmtree(planned / folder)
    for other in (store.storage.root, planned):
        assert main(["report", str(planned), "--compare", str(other)]) == 2
        assert capsys.readouterr().err.endswith("no window is labelled yet; `softlabels run` labels them\n")


def test_a_missing_extra_is_told_with_the_line_that_brings_it(store, corpus, monkeypatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"jinja2 and matplotlib: `pip install softlabels\[report\]`"):
        page_of(store, corpus)


def test_options_that_need_another_say_so() -> None:
    with pytest.raises(ValueError, match="add --manifest"):
        ReportOptions(suspects="suspects.csv")
    with pytest.raises(ValueError, match="--classes beside it"):
        ReportOptions(mapping="mapping.csv")


def test_a_page_says_what_it_is_of_and_what_to_do(store, corpus, monkeypatch, capsys) -> None:
    corpus.write_manifest(corpus.manifest.read_text().replace("noise", "Background"))
    corpus.manifest.rename(corpus.folder / "my labels.csv")
    monkeypatch.chdir(corpus.folder)
    flags = ["--manifest", "my labels.csv", "--limit", "1", "--suspects", "s.csv", "--json"]
    assert main(["report", "store", *flags]) == 0
    told = json.loads(capsys.readouterr().out)
    assert {name: told[name] for name in ("annotated", "suspects", "shown", "duplicates")} == {
        "annotated": 3, "suspects": 2, "shown": 1, "duplicates": 0,
    }  # fmt: skip
    page = Path("report.html").read_text()
    assert (told["written"], told["suspects_csv"], told["bytes"]) == ("report.html", "s.csv", len(page.encode()))
    assert re.search(r"<title>Soft labels by \S+: store, my labels.csv, \d{4}-\d\d-\d\d</title>", page)
    assert "Here are the first 1; <code>softlabels report --limit 2</code> shows all" in page
    assert "<code>softlabels manifest &#39;my labels.csv&#39; --apply marks.csv</code>" in page
    assert "with every 2.3 more, the odds are ten times higher" in page
    cards = page.count('<figure class="card"')
    assert page.count("</span> <small>teacher's probability</small>") == cards + 1  # a suspect has two
    axes = [re.findall(f'class="{name}" aria-hidden="true">(.*?)</div>', page) for name in ("khz", "times")]
    assert len(axes[0]) == len(axes[1]) == cards
    assert re.findall(">([^<]+)<", axes[0][0]) == ["kHz", "0", "1", "2", "3", "4"]
    assert re.findall(">([^<]+)<", axes[1][0]) == ["0.00", "0.05", "0.10 s"]
    assert page.count('class="ramp"') == 2
    with Path("s.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["label"], row["path"]) for row in rows] == [("Background", "c2.wav"), (NAMES[0], "c0.wav")]
    assert [Path(row["recording"]).samefile(row["path"]) for row in rows] == [True, True]


@pytest.mark.parametrize(
    ("lowest", "highest", "texts"),
    [
        (0, 12, ["0", "5", "10"]),
        (0, 24, ["0", "10", "20"]),
        (0, 0.8, ["0.0", "0.2", "0.4", "0.6", "0.8"]),
        (3601.5, 3604.5, ["3602", "3603", "3604"]),
        (86_399.25, 86_409.25, ["86400", "86405"]),
        (0.3, 0.4, ["0.30", "0.35", "0.40"]),
    ],
)
def test_axes_have_round_numbers_in_their_places(lowest: float, highest: float, texts: list[str]) -> None:
    marks = axis_marks(lowest, highest)
    assert [text for text, _ in marks] == texts
    for text, share in marks:
        assert lowest + share * (highest - lowest) == pytest.approx(float(text))


@pytest.fixture(scope="module")
def swapped(birdnet_store, tmp_path_factory) -> tuple:
    """The corpus's manifest with ten labels swapped on purpose, and which clips these are."""
    with (REPOSITORY / "data_manifest.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    rng = np.random.default_rng(3)
    species = sorted({row["label"] for row in rows} - {"", "noise"})
    labelled = [i for i, row in enumerate(rows) if row["label"] in species]
    wrong = rng.choice(labelled, 10, replace=False).tolist()
    for i in wrong:
        rows[i]["label"] = str(rng.choice([name for name in species if name != rows[i]["label"]]))
    folder = tmp_path_factory.mktemp("swapped")
    with (folder / "data_manifest.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return folder, {rows[i]["clip_id"] for i in wrong}


def test_swapped_labels_are_among_the_first_suspects(birdnet_store, swapped) -> None:
    folder, wrong = swapped
    done = run_cli("report", birdnet_store.storage.root, "--suspects", "suspects.csv", "--root", REPOSITORY, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert re.search(r"^annotated +67$", done.stdout, re.MULTILINE)
    with (folder / "suspects.csv").open(newline="") as file:
        suspects = list(csv.DictReader(file))
    caught = wrong & {row["clip_id"] for row in suspects[:15]}
    print(f"{len(caught)} of 10 swapped labels are among the first 15 of {len(suspects)} suspects")
    assert len(caught) >= 8
    assert [float(row["score"]) for row in suspects] == sorted((float(row["score"]) for row in suspects), reverse=True)
    page = (folder / "report.html").read_text()
    assert page.count('data-species="') == min(30, len(suspects))
    assert len(page.encode()) < pipeline.report.report.MAX_BYTES


def test_the_page_shows_what_annotated_clips_teach(corpus: Corpus) -> None:
    rng = np.random.default_rng(0)
    lines = ["clip_id,path,label"]
    for i in range(60):
        loud = rng.uniform(0.01, 0.9)
        corpus.write_samples(f"t{i}.wav", (loud * rng.uniform(-1, 1, 800)).astype(np.float32))
        lines.append(f"t{i},t{i}.wav,{NAMES[0] if loud > 0.4 else 'noise'}")
    corpus.write_manifest("\n".join(lines) + "\n")
    page = page_of(label(corpus), corpus)
    assert "What the annotated clips teach the teacher" in page
    assert "as they are" in page
    assert "(used)" in page
    assert not list((corpus.folder / "store").glob("joins/*"))  # nothing is left behind


def test_too_few_annotated_clips_teach_nothing_and_the_page_says_so(store, corpus: Corpus) -> None:
    assert "expected 20 annotated clips or more" in page_of(store, corpus)
