"""Rule typeset: the article as one HTML file and as a PDF."""

from pathlib import Path

from joules.core.reporting import reporting
from joules.write.typesetting import typeset

if __name__ == "__main__":
    with reporting(snakemake.log[0]) as report:
        paper = Path(snakemake.input["style"][0]).parent.parent
        html, pdf = Path(snakemake.output["html"]), Path(snakemake.output["pdf"])
        names = ("article", "linked", "claims", "runs")
        typeset(*(Path(snakemake.input[name]) for name in names), paper, html, pdf)
        report(f"the article is in {html} and {pdf}")
