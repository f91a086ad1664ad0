"""The report in a real browser: it shows, plays, filters and sorts, and asks nobody for anything.

Marker `browser`. Needs playwright and a Chromium, playwright's own or one on PATH.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from conftest import REPOSITORY, run_cli

from softlabels import read_manifest, write_manifest

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
    contexts, said, asked = [], [], []

    def open_page(width: int = 1280, colours: str = "light"):
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=colours, offline=True)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(TIMEOUT_MS)
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(corpus_page.as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert said == []
    assert [url for url in asked if not url.startswith("data:")] == [corpus_page.as_uri()] * len(contexts)


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
