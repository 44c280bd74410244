"""The HTML article in a real browser: nothing overflows, links lead somewhere, tables sort."""

import re
from pathlib import Path

import msgspec
import pytest
from browser import look, needs_browser
from invented_claims import FIGURES, PAPER, make_claims, write_runs
from matplotlib.figure import Figure

from joules.write.claims_file import write_claims
from joules.write.rendering import write_article
from joules.write.typesetting import typeset

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
    found.broken = [...page.querySelectorAll('a[href^="#"]')].map((a) => a.getAttribute("href"))
      .filter((to) => to.length > 1 && !page.getElementById(decodeURIComponent(to.slice(1))));
    found.links = page.querySelectorAll('a[href^="#claim-"]').length;
    const tables = [...page.querySelectorAll("main table")];
    const numbers = (each) => !isNaN(parseFloat(each.tBodies[0].rows[0].cells[2]?.textContent));
    const table = tables.find((each) => each.tBodies[0].rows.length > 2 && numbers(each));
    const rows = () => [...table.tBodies[0].rows];
    const values = () => rows().map((row) => parseFloat(row.cells[2].textContent));
    const head = table.querySelectorAll("thead th")[2];
    head.querySelector("button").click();
    found.up = values();
    head.querySelector("button").click();
    found.down = values();
    found.sorted = head.getAttribute("aria-sort");
    const costs = tables.find((each) => each.tHead.textContent.includes("per correct"));
    costs.querySelectorAll("thead th")[2].querySelector("button").click();
    found.costs = [...costs.tBodies[0].rows].map((row) => row.cells[2].textContent.trim());
    const place = "claim-pair.parrot-1m.ollama.llama_cpp.ratio";
    page.querySelector(`main a[href="#${place}"]`).click();
    found.opened = page.getElementById(place).closest("details").open;
    const image = page.querySelector("figure img");
    image.dispatchEvent(new view.KeyboardEvent("keydown", {key: "Enter"}));
    const zoom = page.querySelector("dialog.zoom");
    found.zoomed = zoom.open && zoom.querySelector("img").src === image.src;
    zoom.querySelector("button").click();
    found.closed = !zoom.open;
  }
  document.body.innerHTML = "";
  document.body.append(Object.assign(document.createElement("pre"),
    {id: "seen", textContent: JSON.stringify(seen)}));
});
</script>
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The HTML article of invented claims."""
    root = tmp_path_factory.mktemp("page")
    (root / "figures").mkdir()
    for name in FIGURES:
        figure = Figure(figsize=(7, 3))
        figure.subplots().plot([1, 2])
        for suffix in ("svg", "pdf"):
            figure.savefig(root / "figures" / f"{name}.{suffix}")
    claims = make_claims(models=2, runtimes=3)
    cost = "cell.parrot-1m.ollama.energy_j_per_correct"
    claims.claims[cost] = msgspec.structs.replace(claims.claims[cost], value=4.12e-5)
    write_claims(root / "claims.json", claims)
    write_runs(root / "runs.csv", claims)
    (root / "article").mkdir()
    markdown, linked = root / "article/article.md", root / "article/article.linked.md"
    write_article(root / "claims.json", FIGURES, PAPER, markdown, linked)
    made = root / "article/article.html"
    typeset(
        markdown,
        linked,
        root / "claims.json",
        root / "runs.csv",
        PAPER,
        made,
        root / "article/article.pdf",
    )
    return made


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
            assert found["dark"] is dark
            assert found["broken"] == []
            assert found["links"] > 50
            assert found["up"] == sorted(found["up"])
            assert found["down"] == sorted(found["down"], reverse=True)
            assert found["sorted"] == "descending"
            assert found["costs"][0].startswith("4.12 ×"), "a power of ten counts"
            assert found["costs"][-1] == "none", "what is no number stands last"
            assert found["opened"]
            assert found["zoomed"] and found["closed"]
            papers.add(found["paper"])
    assert len(papers) == 2, "one paper for light and one for dark"


def test_every_linked_number_has_its_row_and_every_row_its_runs(page):
    text = page.read_text(encoding="utf-8")
    linked = set(re.findall(r'href="#(claim-[^"]+)"', text))
    rows = set(re.findall(r'<tr id="(claim-[^"]+)"', text))
    assert linked == rows and len(rows) > 50
    assert set(re.findall(r'href="#(runs[^"]*)"', text)) <= set(re.findall(r'id="([^"]+)"', text))


def row_of(page: Path, claim_id: str) -> str:
    pattern = rf'<tr id="claim-{re.escape(claim_id)}">(.*?)</tr>'
    return re.search(pattern, page.read_text(encoding="utf-8"))[1]


def test_a_claim_names_its_row_and_leads_to_the_runs_it_rests_on(page):
    row = row_of(page, "cell.parrot-1m.llama_cpp.energy_j_per_token")
    assert "statistics/cells.csv model=parrot-1m runtime=llama_cpp kind=task" in row
    assert re.findall('href="#([^"]+)"', row) == ["runs-parrot-1m-llama_cpp-task"]
    pair = row_of(page, "pair.parrot-2m.ollama.llama_server.ratio")
    assert set(re.findall('href="#([^"]+)"', pair)) == {
        "runs-parrot-2m-ollama-task",
        "runs-parrot-2m-llama_server-task",
    }
    control = row_of(page, "control.parrot-1m.ratio")
    assert set(re.findall('href="#([^"]+)"', control)) == {
        f"runs-parrot-1m-{runtime}-{kind}"
        for runtime in ("ollama", "llama_cpp", "llama_server")
        for kind in ("task", "control")
    }


def test_every_run_is_listed_with_its_record(page):
    text = page.read_text(encoding="utf-8")
    assert len(re.findall(r'scope="row">records/[\w./-]+\.json<', text)) == 2 * (3 + 1) * 5
    group = re.search(r'<tbody id="runs-parrot-2m-ollama-control">(.*?)</tbody>', text, re.S)[1]
    assert group.count("<tr>") == 2, "three runtimes take turns over five blocks"
    assert "records/parrot-2m/ollama/control/4.json" in group


def test_a_claim_shows_whole_counts_and_no_more_digits_than_it_has(page):
    assert "<td>97</td>" in row_of(page, "cell.parrot-1m.ollama.passed")
    assert "<td>4.12e-05 J</td>" in row_of(page, "cell.parrot-1m.ollama.energy_j_per_correct")
