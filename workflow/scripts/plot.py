"""Rule plot: one figure of the study, as SVG, PDF and PNG."""

import pandas as pd

from joules.core.reporting import reporting
from joules.draw.drawing import draw, tables_of
from joules.draw.style import save

if __name__ == "__main__":
    with reporting(snakemake.log[0]) as report:
        name = snakemake.wildcards.figure
        paths = {table: snakemake.input[table] for table in sorted(tables_of(name))}
        tables = {
            table: pd.read_parquet(path) if path.endswith(".parquet") else pd.read_csv(path)
            for table, path in paths.items()
        }
        figure = draw(name, tables, snakemake.params["demonstration"], snakemake.params["arms"])
        save(figure, snakemake.output["svg"].removesuffix(".svg"))
        report(f"{snakemake.output['svg']} and the same as PDF and PNG")
