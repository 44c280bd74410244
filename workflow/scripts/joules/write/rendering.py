"""The article as Markdown: the template filled, the citations resolved.

Jinja2 renders and pandoc resolves the citations. Equal inputs give equal bytes: nothing here reads
a clock.
"""

import datetime
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jinja2
import pypandoc
import yaml

from joules.core.errors import UserError
from joules.core.files import write_atomic
from joules.core.sense import bibliography_keys
from joules.core.wording import cell_text
from joules.write.claims_file import StudyFacts, read_claims
from joules.write.published_article import read_published_article
from joules.write.template_functions import Article

CITATION = re.compile(r"(?<![\w.])-?@([a-z][a-z0-9]*)")
# The template has no HTML, and names of others have each `<` escaped. With these extensions pandoc
# reads all that follows a `<` as HTML first: of large articles most of its time.
TEMPLATE_MARKDOWN = "markdown-raw_html-native_divs-native_spans"
RESOLVED_MARKDOWN = (
    "markdown-citations-fenced_divs-bracketed_spans-fenced_code_attributes"
    "-header_attributes-smart-simple_tables-multiline_tables-grid_tables-raw_attribute"
)


def environment(folder: Path) -> jinja2.Environment:
    """Return the Jinja2 environment of the article: an undefined name is an error."""
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # Markdown, not HTML
    )
    made.filters["cell"] = cell_text
    made.tests["contains"] = lambda items, item: item in items
    return made


def citation_keys(markdown: str) -> set[str]:
    """Return the keys cited in pandoc's Markdown as `[@key]` or `@key`."""
    return set(CITATION.findall(re.sub(r"`[^`\n]*`|https?://\S+", "", markdown)))


def measured_date(study: StudyFacts) -> datetime.date:
    """Return the day of the first measurement, which is the article's date."""
    try:
        return datetime.date.fromisoformat(study.measured_on)
    except ValueError as error:
        raise UserError(
            f"measured_on is {study.measured_on!r}. It should be the day of the first run, "
            "YYYY-MM-DD. Run the rule `claim` again."
        ) from error


def render(article: Article, paper: Path) -> str:
    """Return the body of the article as Markdown with citations still to be resolved.

    Raises UserError for an undefined name in the template and for a citation without an entry.
    """
    try:
        body = environment(paper).get_template("article.md.j2").render(article.context())
    except jinja2.UndefinedError as error:
        raise UserError(
            f"paper/article.md.j2 uses something that the claims do not define: {error.message}. "
            "Every name must come from joules.write.template_functions.Article or claims.json. "
            "Correct the name."
        ) from error
    known = bibliography_keys((paper / "references.bib").read_text(encoding="utf-8"))
    if unknown := sorted(citation_keys(body) - known):
        raise UserError(
            f"The article cites {', '.join(unknown)}, which paper/references.bib does not have. "
            "Add the entry, or correct the key (a carbon source is a key of config/config.yaml)."
        )
    return re.sub(r"\n{3,}", "\n\n", body)


def front_matter(article: Article, paper: Path) -> str:
    """Return the YAML block of the article: paper/metadata.yaml and the date of the data."""
    metadata = yaml.safe_load((paper / "metadata.yaml").read_text(encoding="utf-8"))
    metadata["date"] = measured_date(article.study).strftime("%d/%m/%Y")
    text = yaml.safe_dump(metadata, allow_unicode=True, sort_keys=False, width=100)
    return f"---\n{text}---\n\n"


def resolved(markdown: str, paper: Path) -> str:
    """Return Markdown whose citations pandoc has resolved, so that it reads without pandoc."""
    body = pypandoc.convert_text(
        markdown,
        RESOLVED_MARKDOWN,
        format=TEMPLATE_MARKDOWN,
        extra_args=[
            "--citeproc",
            f"--bibliography={paper / 'references.bib'}",
            f"--csl={paper / 'style' / 'numeric.csl'}",
            "--metadata=link-citations=true",
            "--wrap=none",
            "--columns=10000",
        ],
    )
    # citeproc marks titles whose capitals it must keep; a reader of the Markdown has no use for it
    return re.sub(r'<span class="nocase">(.*?)</span>', r"\1", body)


def write_article(
    claims: Path, figures: Sequence[str | Path], paper: Path, output: Path, linked: Path
) -> None:
    """Write the article as Markdown, and once more with every number linked to its claim."""
    published = read_published_article(paper / "published-2025.yaml")
    read = read_claims(claims)
    articles = [Article(read, published, figures, linked=links) for links in (False, True)]
    with ThreadPoolExecutor() as pool:  # pandoc takes most of the time, and one core
        bodies = pool.map(resolved, [render(each, paper) for each in articles], [paper] * 2)
        for path, article, body in zip((output, linked), articles, bodies, strict=True):
            write_atomic(path, front_matter(article, paper) + body)
