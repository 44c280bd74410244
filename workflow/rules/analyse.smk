# Needs records, grades and agreements, from this study or from an archive. Leaves tables,
# statistics and claims. Everything here is a pure function of its input: no model, no meter.
# Each rule names its script and modules as inputs, so that an edit runs it again.

MIXING = {
    name: getattr(STUDY, name) for name in ("mixed_instruments", "mixed_machines", "mixed_runtimes")
}
# What the statistics have of a study with a meter of the whole machine, and of no other.
BY_WALL = {
    name: paths.statistics_file("<results>", name)
    for name in ("wall", "wall_pairs")
    if WALL in STUDY.meters
}


rule tabulate:
    """Put all runs, tasks and windows into tables; refuse what must not be compared."""
    input:
        records=records_of(),
        grades=grades_of(),
        agreements=agreements(),
        code=code_of("tabulate", "core", "analyse"),
    output:
        runs="<results>/tables/runs.parquet",
        tasks="<results>/tables/tasks.parquet",
        windows="<results>/tables/windows.parquet",
        trace="<results>/tables/trace.parquet",
        attempts="<results>/tables/attempts.csv",
        validity="<results>/tables/validity.csv",
        runs_csv="<results>/tables/runs.csv",
    log:
        "<logs>/tabulate.log",
    conda:
        "../../envs/analysis.yaml"
    params:
        grams_per_kwh=STUDY.carbon.grams_per_kwh,
        mixing=MIXING,
    script:
        "../scripts/tabulate.py"


rule summarise_model:
    """Summarise one model's runs, its controls included, and nothing else."""
    input:
        records=records_of_model,
        grades=grades_of_model,
        agreements=agreement_of_model,
        code=code_of("summarise_model", "core", "analyse"),
    output:
        "<results>/models/{model}/summary.csv",
    log:
        "<logs>/summarise_model/{model}.log",
    conda:
        "../../envs/analysis.yaml"
    params:
        grams_per_kwh=STUDY.carbon.grams_per_kwh,
        mixing=MIXING,
    script:
        "../scripts/summarise_model.py"


rule compare:
    """Compare the runtimes block by block, and each control with its runtime."""
    input:
        runs="<results>/tables/runs.parquet",
        tasks="<results>/tables/tasks.parquet",
        code=code_of("compare", "core", "inputs", "analyse"),
    output:
        **{
            name: report(
                table,
                caption=f"../report/{name}.rst",
                category="Tables",
                labels={"table": name.replace("_", " ")},
            )
            for name, table in BY_WALL.items()
        },
        cells=report(
            "<results>/statistics/cells.csv",
            caption="../report/cells.rst",
            category="Tables",
            labels={"table": "cells"},
        ),
        comparisons=report(
            "<results>/statistics/comparisons.csv",
            caption="../report/comparisons.rst",
            category="Tables",
            labels={"table": "comparisons"},
        ),
        quality=report(
            "<results>/statistics/quality.csv",
            caption="../report/quality.rst",
            category="Tables",
            labels={"table": "quality"},
        ),
        phases=report(
            "<results>/statistics/phases.csv",
            caption="../report/phases.rst",
            category="Tables",
            labels={"table": "phases"},
        ),
        break_even=report(
            "<results>/statistics/break_even.csv",
            caption="../report/break_even.rst",
            category="Tables",
            labels={"table": "break even"},
        ),
        sensitivity=report(
            "<results>/statistics/sensitivity.csv",
            caption="../report/sensitivity.rst",
            category="Tables",
            labels={"table": "sensitivity"},
        ),
        ranking=report(
            "<results>/statistics/ranking.csv",
            caption="../report/ranking.rst",
            category="Tables",
            labels={"table": "ranking"},
        ),
        verdicts="<results>/statistics/verdicts.csv",
        rules="<results>/statistics/rules.csv",
        contested=report(
            "<results>/statistics/contested.csv",
            caption="../report/contested.rst",
            category="Tables",
            labels={"table": "contested"},
        ),
        drift=report(
            "<results>/statistics/drift.csv",
            caption="../report/drift.rst",
            category="Tables",
            labels={"table": "drift"},
        ),
        problems=report(
            "<results>/statistics/problems.csv",
            caption="../report/problems.rst",
            category="Tables",
            labels={"table": "problems"},
        ),
        explanations=report(
            "<results>/statistics/explanations.csv",
            caption="../report/explanations.rst",
            category="Tables",
            labels={"table": "explanations"},
        ),
        texts=report(
            "<results>/statistics/texts.csv",
            caption="../report/texts.rst",
            category="Tables",
            labels={"table": "texts"},
        ),
        broken_rules=report(
            "<results>/statistics/broken_rules.csv",
            caption="../report/broken_rules.rst",
            category="Tables",
            labels={"table": "broken rules"},
        ),
    log:
        "<logs>/compare.log",
    conda:
        "../../envs/analysis.yaml"
    params:
        runtimes=list(STUDY.compared),
        contrasts=[list(pair) for pair in STUDY.contrasts],
    script:
        "../scripts/compare.py"


rule claim:
    """State every number of the article, and what may be said of it."""
    input:
        **BY_WALL,
        runs="<results>/tables/runs.parquet",
        attempts="<results>/tables/attempts.csv",
        validity="<results>/tables/validity.csv",
        records=records_of(),
        catalogue="config/models.yaml",
        cells="<results>/statistics/cells.csv",
        comparisons="<results>/statistics/comparisons.csv",
        quality="<results>/statistics/quality.csv",
        phases="<results>/statistics/phases.csv",
        break_even="<results>/statistics/break_even.csv",
        sensitivity="<results>/statistics/sensitivity.csv",
        ranking="<results>/statistics/ranking.csv",
        verdicts="<results>/statistics/verdicts.csv",
        rules="<results>/statistics/rules.csv",
        contested="<results>/statistics/contested.csv",
        drift="<results>/statistics/drift.csv",
        problems="<results>/statistics/problems.csv",
        explanations="<results>/statistics/explanations.csv",
        texts="<results>/statistics/texts.csv",
        broken_rules="<results>/statistics/broken_rules.csv",
        code=code_of("claim", "core", "inputs", "analyse", "write"),
    output:
        "<results>/claims.json",
    log:
        "<logs>/claim.log",
    conda:
        "../../envs/analysis.yaml"
    params:
        demonstration=STUDY.demonstration,
        models=list(STUDY.models),
        runtimes=list(STUDY.compared),
        kinds=list(STUDY.kinds),
        seed=STUDY.seed,
        carbon=msgspec.to_builtins(STUDY.carbon),
        plan=msgspec.to_builtins(PLAN),
    script:
        "../scripts/claim.py"


rule tables:
    """The tables of all runs and the summary of each model."""
    input:
        rules.tabulate.output,
        rules.compare.output,
        collect("<results>/models/{model}/summary.csv", model=STUDY.models),
