"""Rule plot: every figure of the study, as SVG, PDF and PNG."""

from pathlib import Path

import pandas as pd

from joules.core.reporting import reporting
from joules.draw.drawing import draw, tables_of
from joules.draw.style import save

if __name__ == "__main__":
    with reporting(snakemake.log[0]) as report:
        figures = {Path(path).stem: Path(path).with_suffix("") for path in snakemake.output["svg"]}
        paths = {table: snakemake.input[table] for name in figures for table in tables_of(name)}
        tables = {
            table: pd.read_parquet(path) if path.endswith(".parquet") else pd.read_csv(path)
            for table, path in paths.items()
        }
        given = (snakemake.params["demonstration"], snakemake.params["arms"])
        for name, stem in figures.items():
            save(draw(name, tables, *given), stem)
            report(f"{stem}.svg and the same as PDF and PNG")
