# Needs the tables and three of the statistics. Leaves every figure as SVG, PDF and PNG.
# Each is a module of joules/draw/figures. No figure needs a model or a meter.


rule plot:
    """Draw every figure, in one process; each says below its axes when its energy is not measured."""
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
        svg=[
            report(
                f"<results>/figures/{figure}.svg",
                caption=f"../report/figures/{figure}.rst",
                category="Figures",
                labels={"figure": figure},
            )
            for figure in FIGURES
        ],
        pdf=collect("<results>/figures/{figure}.pdf", figure=FIGURES),
        png=collect("<results>/figures/{figure}.png", figure=FIGURES),
    log:
        "<logs>/plot.log",
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
        rules.plot.output,
