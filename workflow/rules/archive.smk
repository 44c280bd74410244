# Needs records, grades, prompts, agreements and the schedule. Leaves the campaign as one zip file,
# from which everything right of the records can be rebuilt.


rule archive:
    """Pack one campaign, with its checksums, for reviewers and for keeping."""
    input:
        files=archived_files(),
        schedule=f"{source_folder()}/schedule.csv",
        citation="CITATION.cff",
        code=modules("archive", "archive", "crate"),
    output:
        f"<results>/archive/{config['campaign']}.zip",
    log:
        f"<logs>/archive/{config['campaign']}.log",
    conda:
        "../../envs/analysis.yaml"
    params:
        config=archived_config(),
    script:
        "../scripts/archive.py"
