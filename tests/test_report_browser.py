"""The report in a real browser: it shows, plays, filters, sorts, takes marks, and asks nobody for anything.

Marker `browser`. Needs playwright and a Chromium, playwright's own or one on PATH.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from conftest import REPOSITORY, Corpus, run_cli
from conftest import label as label_corpus

from softlabels import Clip, read_manifest, write_manifest

pytestmark = pytest.mark.browser
pytest.importorskip("matplotlib", reason="the extra report is not installed")
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUMS = ("chromium", "chromium-headless-shell", "chromium-browser", "google-chrome")
TIMEOUT_MS = 20_000


@pytest.fixture(scope="module")
def browser() -> Iterator["playwright.Browser"]:
    with playwright.sync_playwright() as engine:
        own = engine.chromium.executable_path
        path = own if Path(own).exists() else next(filter(None, map(shutil.which, CHROMIUMS)), None)
        if path is None:
            pytest.skip("no Chromium: `playwright install chromium`, or Debian's package chromium-headless-shell")
        with engine.chromium.launch(executable_path=path, args=["--no-sandbox"]) as launched:
            yield launched


@pytest.fixture(scope="module")
def corpus_page(birdnet_store, tmp_path_factory) -> Path:
    """The report of the corpus, with ten labels shifted by one clip so that there is something to disagree about."""
    folder = tmp_path_factory.mktemp("report")
    clips = read_manifest(REPOSITORY / "data_manifest.csv")
    labelled = [i for i, clip in enumerate(clips) if clip.labels][:60:6]
    labels = [clips[i].labels for i in labelled]
    for i, label in zip(labelled, labels[1:] + labels[:1], strict=True):
        object.__setattr__(clips[i], "labels", label)
    write_manifest(clips, folder / "data_manifest.csv")
    done = run_cli("report", birdnet_store.storage.root, "--root", REPOSITORY, cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / "report.html"


@pytest.fixture
def opened(browser, corpus_page):
    """Opens the page at a width; what it says on the console and whom it asks for anything is kept."""
    contexts, said, asked, pages = [], [], [], []

    def open_page(width: int = 1280, colours: str = "light", path: Path = corpus_page):
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=colours, offline=True)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(TIMEOUT_MS)
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(path.as_uri())
        pages.append(path.as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert said == []
    assert [url for url in asked if not url.startswith("data:")] == pages


def test_the_player_plays(opened) -> None:
    page = opened()
    player = page.locator("#suspects audio").first
    length, place = player.evaluate(
        """async audio => {
            audio.muted = true;
            await audio.play();
            await new Promise(done => setTimeout(done, 700));
            return [audio.duration, audio.currentTime];
        }"""
    )
    assert length == pytest.approx(3.0, abs=0.01)
    assert place > 0.2


def test_a_second_player_stops_the_first(opened) -> None:
    page = opened()
    paused = page.evaluate(
        """async () => {
            const [one, two] = document.querySelectorAll("audio");
            for (const audio of [one, two]) { audio.muted = true; await audio.play(); }
            await new Promise(done => setTimeout(done, 100));
            return [one.paused, two.paused];
        }"""
    )
    assert paused == [True, False]


def test_every_picture_is_drawn(opened) -> None:
    sizes = opened().evaluate("() => [...document.images].map(image => [image.complete, image.naturalWidth])")
    assert len(sizes) > 10
    assert all(complete and width > 10 for complete, width in sizes)


def test_the_filter_filters_and_the_order_orders(opened) -> None:
    page = opened()
    cards = page.locator("#suspects .card:visible")
    everything = cards.count()
    assert everything >= 8
    chosen = page.locator("#species option").nth(1).get_attribute("value")
    page.select_option("#species", chosen)
    shown = cards.evaluate_all("cards => cards.map(card => card.dataset.species.split('|'))")
    assert 0 < len(shown) < everything
    assert all(chosen in species for species in shown)
    assert page.inner_text("#shown") == f"{len(shown)} of {everything} shown"
    page.select_option("#species", "")
    for key, attribute in (("clip", "clip"), ("label", "label"), ("heard", "heard")):
        page.select_option("#order", key)
        found = cards.evaluate_all(f"cards => cards.map(card => card.dataset.{attribute})")
        assert found == page.evaluate("names => [...names].sort((a, b) => a.localeCompare(b))", found)
        assert len(found) == everything


def test_a_table_is_sorted_by_the_column_that_is_clicked(opened) -> None:
    page = opened()
    table = page.locator("table.sortable").first
    column = "table => [...table.tBodies[0].rows].map(row => Number(row.cells[2].textContent))"
    head = table.locator("thead th").nth(2)
    head.locator("button").click()
    assert head.get_attribute("aria-sort") == "descending"
    assert np.all(np.diff(table.evaluate(column)) <= 0)
    head.locator("button").click()
    assert head.get_attribute("aria-sort") == "ascending"
    assert np.all(np.diff(table.evaluate(column)) >= 0)


@pytest.mark.parametrize("width", [1280, 400])
@pytest.mark.parametrize("colours", ["light", "dark"])
def test_nothing_is_wider_than_the_page_and_text_is_readable(opened, width: int, colours: str) -> None:
    page = opened(width, colours)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    sizes = page.evaluate(
        """() => [...document.querySelectorAll("p, td, th, dt, dd, figcaption, select")]
            .map(element => parseFloat(getComputedStyle(element).fontSize))"""
    )
    assert min(sizes) >= 13
    paper, ink = page.evaluate(
        "() => [getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]"
    )
    light, dark = sorted(sum(int(x) for x in colour[4:-1].split(",")) for colour in (paper, ink))[::-1]
    assert light - dark > 500
    assert (sum(int(x) for x in paper[4:-1].split(",")) > 600) == (colours == "light")


def marked(page, number: int, verdict: str, choice: str = "") -> str:
    """Mark the card of a rank as a person does, and choose by the text that is shown; -> the clip."""
    card = page.locator(f"#suspects .card[data-rank='{number}']")
    assert card.get_attribute("data-row").split(",")[-1] not in card.locator("option").evaluate_all(
        "all => all.map(o => o.value)"
    )
    card.locator(f"input[value={verdict}]").check()
    if choice:
        texts = card.locator("select option").all_inner_texts()
        card.locator("select").select_option(label=next(text for text in texts if choice in text))
    return card.get_attribute("data-clip")


def download(page, folder: Path) -> Path:
    with page.expect_download() as expected:
        page.click("#download")
    assert expected.value.suggested_filename == "marks.csv"
    expected.value.save_as(folder / "marks.csv")
    return folder / "marks.csv"


@pytest.mark.parametrize("width", [1280, 400])
def test_marks_are_downloaded_and_correct_the_manifest(opened, corpus_page: Path, tmp_path: Path, width: int) -> None:
    page = opened(width)
    assert page.locator("#download").is_disabled()
    right, wrong = marked(page, 1, "right"), marked(page, 2, "wrong")
    instead, too = marked(page, 3, "wrong", "Great Tit"), marked(page, 4, "right", "Common Cuckoo")
    noise, second = marked(page, 5, "wrong", "only noise"), marked(page, 6, "wrong")
    page.locator("#suspects .card[data-rank='6'] input[value=right]").check()  # second thoughts
    marked(page, 3, "wrong", "Long-eared Owl")
    everything = page.locator("#suspects .card").count()
    assert page.inner_text("#count") == f"6 of {everything} marked (3 right, 3 wrong)"
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    colours = page.locator("#suspects .card.right, #suspects .card.wrong").evaluate_all(
        "cards => cards.map(card => getComputedStyle(card).outlineColor)"
    )
    assert len(colours) == 6
    assert set(colours) == set(
        page.locator("ol .key").evaluate_all("keys => keys.map(k => getComputedStyle(k).backgroundColor)")
    )
    shutil.copy(corpus_page.parent / "data_manifest.csv", tmp_path)
    marks = download(page, tmp_path)
    before = {clip.clip_id: clip for clip in read_manifest(tmp_path / "data_manifest.csv")}
    done = run_cli("manifest", "data_manifest.csv", "--apply", marks, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert dict(line.split() for line in done.stdout.splitlines()) == {
        "corrected": "4", "confirmed": "2", "already": "0", "left_alone": "0", "manifest": "data_manifest.csv",
    }  # fmt: skip
    after = {clip.clip_id: clip for clip in read_manifest(tmp_path / "data_manifest.csv")}
    said = {i: (clip.labels, clip.absent) for i, clip in after.items()}
    for i in (right, second):
        assert said[i] == (before[i].labels, ())
    assert said[wrong] == (None, before[wrong].labels)
    assert said[instead] == (("Asio otus_Long-eared Owl",), before[instead].labels)
    assert said[too] == ((*before[too].labels, "Cuculus canorus_Common Cuckoo"), ())
    assert said[noise] == ((), ())
    others = before.keys() - {right, wrong, instead, too, noise, second}
    assert all((after[i].labels, after[i].absent) == (before[i].labels, before[i].absent) for i in others)


def test_marks_are_there_again_after_a_reload_and_can_be_cleared(opened, tmp_path: Path) -> None:
    page = opened()
    marked(page, 2, "wrong", "Great Tit")
    first = download(page, tmp_path).read_text()
    again = page.context.new_page()
    again.goto(page.url)
    assert again.locator("#suspects .card.wrong").count() == 1
    assert download(again, tmp_path).read_text() == first
    again.click("#clear")
    assert again.locator("#suspects .card.wrong, #suspects input:checked").count() == 0
    assert again.locator("#download").is_disabled()


@pytest.mark.parametrize("width", [1280, 400])
def test_a_picture_has_its_axes_and_a_legend_of_its_colours(opened, width: int) -> None:
    page = opened(width)
    card = page.locator("#suspects .card").first
    assert card.locator(".khz span").all_inner_texts() == ["kHz", "0", "5", "10"]
    assert card.locator(".times span").all_inner_texts() == ["0", "1", "2", "3 s"]
    inside = """([outer, ...inner]) => inner.every(one => {
        const a = outer.getBoundingClientRect(), b = one.getBoundingClientRect();
        return b.left >= a.left && b.right <= a.right && b.top >= a.top && b.bottom <= a.bottom;
    })"""
    marks = card.evaluate_handle("card => [card, ...card.querySelectorAll('.spectrogram span')]")
    assert page.evaluate(inside, marks)
    ten, picture = card.locator(".khz span").nth(3).bounding_box(), card.locator("img").bounding_box()
    height = picture["y"] + picture["height"] * (1 - 10 / 12)
    assert ten["y"] + ten["height"] / 2 == pytest.approx(height, abs=2)
    title = page.locator(".wide").get_by_text("mean probability", exact=True).bounding_box()
    assert title["x"] + title["width"] < width  # the confusions' own, without scrolling
    for ramp in page.locator(".ramp").all():
        assert ramp.is_visible()
        assert "linear-gradient" in ramp.evaluate("ramp => getComputedStyle(ramp).backgroundImage")


def test_a_table_says_that_it_scrolls_where_it_does(opened) -> None:
    hints = "() => [...document.querySelectorAll('.hint')].filter(hint => !hint.hidden).map(hint => hint.textContent)"
    narrow, wide = opened(400), opened(1280)
    assert sum("sideways" in hint for hint in narrow.evaluate(hints)) >= 3
    assert not [hint for hint in wide.evaluate(hints) if "sideways" in hint]
    overflowing = """() => [...document.querySelectorAll('.scroll, .wide')]
        .filter(box => box.scrollWidth > box.clientWidth + 1)
        .map(box => box.previousElementSibling.getBoundingClientRect().height > 10)"""
    assert all(narrow.evaluate(overflowing))
    wide.set_viewport_size({"width": 400, "height": 900})
    wide.wait_for_function("document.querySelector('.hint:not([hidden])')?.textContent.includes('sideways')")


def test_names_that_attack_come_back_as_they_were(opened, corpus: Corpus) -> None:
    """A formula, a tag, a quote, a mark that turns the writing: in ids and in labels of one's own."""
    odd = ["=1+1", "+\u202etxt.exe", "<img src=x onerror=alert(1)>", 'a"b,c', "\uff1dz", "'@q"]
    own = ["Aus aus_Alpha", "Bus bus_Beta"]  # of five clips with one label something would be usual
    clips = [Clip(clip_id=name, path=f"c{i}.wav", labels=(own[i % 2],)) for i, name in enumerate(odd)]
    write_manifest(clips, corpus.manifest)
    label_corpus(corpus)
    done = run_cli("report", "store", cwd=corpus.folder)
    assert done.returncode == 0, done.stderr
    page = opened(path=corpus.folder / "report.html")
    cards = page.locator("#suspects .card")
    found = {marked(page, rank, "wrong", "Gamma") for rank in range(1, cards.count() + 1)}
    assert len(found) >= 4
    assert not [text for text in [page.inner_text("body")] if "\u202e" in text]
    done = run_cli("manifest", "--apply", download(page, corpus.folder), cwd=corpus.folder)
    assert done.returncode == 0, done.stderr
    assert "\u202e" not in done.stdout + done.stderr
    after = {clip.clip_id: clip.labels for clip in read_manifest(corpus.manifest)}
    assert sum(labels == ("Cus cus_Gamma",) for labels in after.values()) == len(found)
    assert after.keys() == set(odd)
