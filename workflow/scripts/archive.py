"""Rule archive: one campaign as one file."""

from pathlib import Path

from joules.core.reporting import reporting
from joules.write.archive import pack

if __name__ == "__main__":
    with reporting(snakemake.log[0]) as report:
        files = [Path(path) for path in snakemake.input["files"]]
        root = Path(snakemake.input["schedule"]).parent
        files.append(Path(snakemake.input["schedule"]))
        citation = Path(snakemake.input["citation"])
        config, catalogue = snakemake.params["config"], snakemake.params["catalogue"]
        pack(root, files, config, citation, Path(snakemake.output[0]), catalogue)
        report(f"{len(files)} files in {snakemake.output[0]}")
