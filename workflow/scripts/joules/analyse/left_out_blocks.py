"""Blocks that a comparison cannot use, as lines for people."""

from collections.abc import Iterator

import pandas as pd

REASONS = {
    "split_blocks": "of two sessions",
    "mixed_blocks": "of two machines, builds or versions of the instrument",
    "invalid_blocks": "invalid",
    "flagged_blocks": "with a run that broke a rule",
}


def left_out_blocks(comparisons: pd.DataFrame) -> Iterator[str]:
    """Yield one line per comparison from which blocks were left out, with what to do."""
    for _, row in comparisons.iterrows():
        for column, words in REASONS.items():
            if isinstance(row[column], str) and row[column]:
                yield (
                    f"{row['model']}, {row['runtime_a']} and {row['runtime_b']} ({row['kind']}): "
                    f"blocks {row[column].replace(';', ', ')} are left out ({words}). To repeat "
                    "the model's runs: snakemake --cores 1 --forcerun measure -- "
                    f"results/STUDY/models/{row['model']}/summary.csv"
                )
