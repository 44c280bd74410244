# Needs the tables and two of the statistics. Leaves every figure as SVG, PDF and PNG.
# The names are those of FIGURES in joules/figures.py. No figure needs a model or a meter.

FIGURES = [
    "energy_per_token",
    "energy_per_task",
    "energy_by_window",
    "energy_against_quality",
    "energy_per_correct",
    "ratios",
    "null_control",
    "order",
    "power_over_time",
    "cover",
]


rule plot:
    """Draw one figure; each says below its axes when its energy is not measured."""
    input:
        runs="<results>/tables/runs.parquet",
        tasks="<results>/tables/tasks.parquet",
        windows="<results>/tables/windows.parquet",
        trace="<results>/tables/trace.parquet",
        cells="<results>/statistics/cells.csv",
        comparisons="<results>/statistics/comparisons.csv",
        code=modules(
            "plot",
            "figures",
            "plots_of_energy",
            "plots_of_runs",
            "selection",
            "style",
            "statistics",
            "descriptives",
        ),
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
        demonstration=lookup("demonstration", within=config),
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
