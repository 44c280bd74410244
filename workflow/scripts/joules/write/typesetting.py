"""The article's Markdown as one HTML file and as a PDF.

pandoc converts and typst sets the pages. Equal articles give equal bytes: nothing here reads a
clock, and only the fonts inside typst are used.
"""

import datetime
import re
import tempfile
from pathlib import Path

import pypandoc
import typst
import yaml

from joules.core.errors import UserError
from joules.core.files import write_atomic
from joules.write.claim_list import evidence, linked_ids, read_runs
from joules.write.claims_file import read_claims

# Quotes and dashes of the article are set already: two hyphens in it are those of an option.
RESOLVED = "markdown-smart"


def read_article(path: Path) -> str:
    """Return an article as Markdown, in which no line ends behind "et al."."""
    return path.read_text(encoding="utf-8").replace("et al. ", "et al.\u00a0")


def scrolling_tables(page: str) -> str:
    """Return pandoc's HTML with each table in a box that scrolls, its caption above the box."""
    page = re.sub(
        r"<table([^>]*)>\s*<caption>(.*?)</caption>",
        r'<figure class="table"><figcaption>\2</figcaption>'
        r'<div class="scroll" tabindex="0"><table\1>',
        page,
        flags=re.DOTALL,
    )
    page = page.replace("</table>", "</table></div></figure>")
    return re.sub(r"(<img [^>]*--points[^>]*>)", r'<div class="scroll">\1</div>', page)


def sized_figures(markdown: str, folder: Path) -> str:
    """Return Markdown in which each figure bears its width in points, as its SVG file says it.

    On a narrow screen the page lets a figure be wider than the screen, and scroll, so that its
    letters can be read. Raises UserError for a figure that is not in `folder`.
    """

    def sized(found: re.Match[str]) -> str:
        path = folder / f"{found[1]}.svg"
        if not path.exists():
            raise UserError(
                f"The article shows {path}, which does not exist. The figures should lie in "
                f"{folder}. Run the rule `figures` again."
            )
        width = re.search(r'<svg[^>]*?\bwidth="([\d.]+)pt"', path.read_text(encoding="utf-8"))
        return f'{found[0]}{{style="--points: {width[1] if width else 0}"}}'

    return re.sub(r"\]\(\.\./figures/([\w-]+)\.svg\)", sized, markdown)


def typeset(
    article: Path, linked: Path, claims: Path, runs: Path, paper: Path, html: Path, pdf: Path
) -> None:
    """Set the Markdown article as one self-contained HTML file and as a PDF.

    The page is made of `linked`, whose numbers are links into a list of the claims at its end;
    the claims lead to a list of the runs, from tables/runs.csv.

    The figures lie beside the article's folder, as `../figures/NAME.svg` for HTML and
    `../figures/NAME.pdf` for the PDF. Only typst's own fonts are used, and the PDF bears the date
    of the data, so that equal articles give equal files.
    """
    style = paper / "style"
    text = read_article(article)
    written = yaml.safe_load(text.split("---\n")[1])["date"]
    date = datetime.datetime.strptime(written, "%d/%m/%Y").replace(tzinfo=datetime.UTC)
    common = ["--standalone", "--columns=10000"]
    marked = read_article(linked)
    page = pypandoc.convert_text(
        sized_figures(marked, article.parent.parent / "figures"),
        "html5",
        format=RESOLVED,
        extra_args=[
            *common,
            f"--template={style / 'article.html'}",
            f"--css={style / 'article.css'}",
            "--embed-resources",
            f"--resource-path={article.parent}",
        ],
    )
    stated = read_claims(claims).claims
    lists = evidence(stated, linked_ids(marked), read_runs(runs), style)
    write_atomic(html, scrolling_tables(page).replace("</main>", f"{lists}\n</main>"))
    text = re.sub(r"\]\(\.\./figures/([\w-]+)\.svg\)", r"](/figures/\1.pdf)", text)
    body, _, rest = text.partition("\n## Appendix\n")
    rest = re.sub(r"^(##+ .*)$", r"\1 {.unnumbered}", f"\n## Appendix\n{rest}", flags=re.MULTILINE)
    source = pypandoc.convert_text(
        body + rest,
        "typst",
        format=RESOLVED,
        extra_args=[
            *common,
            f"--template={style / 'article.typ'}",
            f"--variable=year={date.year}",
            f"--variable=month={date.month}",
            f"--variable=day={date.day}",
            "--shift-heading-level-by=-1",
        ],
    )
    with tempfile.TemporaryDirectory(dir=article.parent) as folder:
        (Path(folder) / "article.typ").write_text(source, encoding="utf-8")
        try:
            content = typst.compile(
                Path(folder) / "article.typ",
                root=article.parent.parent,
                ignore_system_fonts=True,
                font_paths=[],
                timestamp=int(date.timestamp()),
            )
        except typst.TypstError as error:
            raise UserError(
                f"typst could not set {article}: {error}. It should be what write_article wrote, "
                "beside the figures it names. Run both rules again."
            ) from error
    write_atomic(pdf, content)
