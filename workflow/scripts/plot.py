"""Rule plot: one figure of the study, as SVG, PDF and PNG."""

import pandas as pd

from joules.figures import FIGURES, draw
from joules.script import reporting
from joules.style import save

if __name__ == "__main__":
    with reporting(snakemake.log[0]) as report:
        name = snakemake.wildcards.figure
        needed = {"runs", *(FIGURES[name][1] if name in FIGURES else ())}  # some tables are large
        paths = {table: snakemake.input[table] for table in sorted(needed)}
        tables = {
            table: pd.read_parquet(path) if path.endswith(".parquet") else pd.read_csv(path)
            for table, path in paths.items()
        }
        figure = draw(name, tables, demonstration=snakemake.params["demonstration"])
        save(figure, snakemake.output["svg"].removesuffix(".svg"))
        report(f"{snakemake.output['svg']} and the same as PDF and PNG")
