# Needs the claims, the figures and the table of runs. Leaves the article as Markdown, as one HTML
# file and as a PDF. The text is in paper/. No rule here needs a model or a meter.


rule write_article:
    """Fill the article's template with claims and figures, and resolve its citations."""
    input:
        claims="<results>/claims.json",
        figures=collect("<results>/figures/{figure}.svg", figure=FIGURES),
        paper=[
            "paper/article.md.j2",
            "paper/metadata.yaml",
            "paper/references.bib",
            "paper/published-2025.yaml",
            "paper/style/numeric.csl",
        ],
        code=code_of("write_article", "core", "inputs", "machine", "runtimes", "write"),
    output:
        article="<results>/article/article.md",
        linked="<results>/article/article.linked.md",
    log:
        "<logs>/write_article.log",
    conda:
        "../../envs/article.yaml"
    script:
        "../scripts/write_article.py"


rule typeset:
    """Set the article for the screen, as one file, and for paper."""
    input:
        article="<results>/article/article.md",
        linked="<results>/article/article.linked.md",
        claims="<results>/claims.json",
        runs="<results>/tables/runs.csv",
        figures=collect(
            "<results>/figures/{figure}.{suffix}", figure=FIGURES, suffix=["svg", "pdf"]
        ),
        style=[
            "paper/style/article.html",
            "paper/style/article.css",
            "paper/style/article.typ",
            "paper/style/evidence.html.j2",
        ],
        code=code_of("typeset", "core", "write"),
    output:
        html="<results>/article/article.html",
        pdf="<results>/article/article.pdf",
    log:
        "<logs>/typeset.log",
    conda:
        "../../envs/article.yaml"
    script:
        "../scripts/typeset.py"
