# Needs the tables and three of the statistics. Leaves every figure as SVG, PDF and PNG.
# Each is a module of joules/draw/figures. No figure needs a model or a meter.


rule plot:
    """Draw one figure; each says below its axes when its energy is not measured."""
    input:
        runs="<results>/tables/runs.parquet",
        tasks="<results>/tables/tasks.parquet",
        windows="<results>/tables/windows.parquet",
        trace="<results>/tables/trace.parquet",
        cells="<results>/statistics/cells.csv",
        comparisons="<results>/statistics/comparisons.csv",
        drift="<results>/statistics/drift.csv",
        code=code_of("plot", "core", "analyse", "draw"),
    output:
        svg=report(
            "<results>/figures/{figure}.svg",
            caption="../report/figure.rst",
            category="Figures",
            labels={"figure": "{figure}"},
        ),
        pdf="<results>/figures/{figure}.pdf",
        png="<results>/figures/{figure}.png",
    log:
        "<logs>/plot/{figure}.log",
    conda:
        "../../envs/analysis.yaml"
    params:
        demonstration=STUDY.demonstration,
        arms={name: arm.runtime for name, arm in STUDY.arms.items()},
    script:
        "../scripts/plot.py"


rule figures:
    """All figures of the study."""
    input:
        collect(
            "<results>/figures/{figure}.{suffix}",
            figure=FIGURES,
            suffix=["svg", "pdf", "png"],
        ),
