"""The page of campaigns side by side in a real browser: every width, light and dark, sorting."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from browser import look, needs_browser
from campaigns import write_campaign
from demonstration_campaigns import COMMITTED

from joules.commands.compare import compare_campaigns

LOOK = """
<script>
window.addEventListener("load", () => {
  const seen = {};
  for (const frame of document.querySelectorAll("iframe")) {
    const page = frame.contentDocument, view = frame.contentWindow, root = page.documentElement;
    const found = seen[frame.id] = {};
    found.overflow = root.scrollWidth - root.clientWidth;
    found.dark = view.matchMedia("(prefers-color-scheme: dark)").matches;
    found.paper = view.getComputedStyle(page.body).backgroundColor;
    found.ink = view.getComputedStyle(page.body).color;
    const image = page.querySelector("figure img");
    found.drawn = image.complete && image.naturalWidth > 0;
    const table = page.querySelector("#ratios table");
    const column = [...table.tHead.rows[0].cells].findIndex((each) => each.textContent === "Ratio");
    const values = () => [...table.tBodies[0].rows].map((row) => row.cells[column].textContent);
    const press = (at) => table.tHead.rows[0].cells[at].querySelector("button").click();
    press(column);
    found.up = values();
    press(column);
    found.down = values();
    found.sorted = table.tHead.rows[0].cells[column].getAttribute("aria-sort");
    press(0);
    found.names = [...table.tBodies[0].rows].map((row) => row.cells[0].textContent);
    const means = page.querySelector("#means table");
    means.tHead.rows[0].cells[4].querySelector("button").click();
    found.means = [...means.tBodies[0].rows].map((row) => row.cells[4].textContent);
  }
  document.body.innerHTML = "";
  document.body.append(Object.assign(document.createElement("pre"),
    {id: "seen", textContent: JSON.stringify(seen)}));
});
</script>
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of three campaigns that are averaged, and one that is not."""
    folder = tmp_path_factory.mktemp("page")
    places = {COMMITTED.name: COMMITTED}
    for n in range(3):
        name = f"lab-{n}"
        places[name] = write_campaign(folder, name, log_ratio=0.1 * (n - 1), seed=n + 1)
    compare_campaigns(places, folder / "out")
    return folder / "out/index.html"


@needs_browser
def test_the_page_works_at_every_width_in_light_and_dark(page, tmp_path):
    papers = set()
    for dark in (False, True):
        folder = tmp_path / str(dark)
        folder.mkdir()
        option = f"--blink-settings=preferredColorScheme={0 if dark else 1}"
        seen, log = look(page, folder, LOOK, option)
        assert "CONSOLE" not in log, log
        assert list(seen) == ["w375", "w768", "w1280"]
        for width, found in seen.items():
            assert found["overflow"] <= 0, width
            assert found["dark"] is dark and found["drawn"]
            up = [float(text) for text in found["up"]]
            assert len(up) == 5 and up == sorted(up)
            assert found["down"] == found["up"][::-1] and found["sorted"] == "descending"
            assert found["names"] == sorted(found["names"])
            assert found["means"][0] != "none" and found["means"][-1] == "none"
            papers.add((found["paper"], found["ink"]))
    assert len(papers) == 2, "one paper for light and one for dark"


class Reader(HTMLParser):
    """What a reader without JavaScript and without a net has of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.links: list[str] = []
        self.words: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.open.append(tag)
        if tag == "a":
            self.links.append(given["href"])
        elif tag in ("img", "script", "link", "iframe", "source"):
            self.fetched += [given[key] for key in ("src", "href") if key in given]

    def handle_data(self, data):
        if self.open[-1:] != ["script"]:
            self.words.append(data)


def test_the_page_needs_neither_net_nor_javascript_and_its_links_lead_to_files(page):
    text, reader = page.read_text(encoding="utf-8"), Reader()
    reader.feed(text)
    assert all(place.startswith("data:image/svg+xml;base64,") for place in reader.fetched)
    assert len(reader.fetched) == 1 and "@import" not in text and "url(" not in text
    assert sorted(reader.links) == sorted(
        each.name for each in page.parent.iterdir() if each != page
    )
    words = " ".join(" ".join(reader.words).split())
    assert "The prediction intervals of fewer than 10 campaigns are approximate" in words
    assert re.search(r"3 of 3 0\.\d+|3 of 3 1\.\d+", words), "the mean stands in the page itself"
    assert "no: It is a demonstration study." in words
    assert "settle.seconds" in words, "what differs is named"
