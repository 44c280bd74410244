"""Rule write_article: claims, figures and the template become the article in Markdown."""

from pathlib import Path

from joules.core.reporting import reporting
from joules.write.rendering import write_article

if __name__ == "__main__":
    with reporting(snakemake.log[0]) as report:
        paper = Path(snakemake.input["paper"][0]).parent
        output = Path(snakemake.output["article"])
        write_article(
            Path(snakemake.input["claims"]),
            list(snakemake.input["figures"]),
            paper,
            output,
            Path(snakemake.output["linked"]),
        )
        report(f"the article is in {output}")
