# Needs records, grades, prompts, agreements and the schedule, and takes the study's registration and
# invalid attempts along. Leaves the campaign as one zip file, from which everything right of the
# records can be rebuilt.


rule archive:
    """Pack one campaign, with its checksums, for reviewers and for keeping."""
    input:
        files=archived_files(),
        schedule=paths.schedule_file(SOURCE),
        citation="CITATION.cff",
        licences=["data/licences/CC-BY-4.0.txt", "data/licences/HumanEval.txt"],
        workflow="Snakefile",
        code=code_of("archive", "core", "write"),
    output:
        paths.archive_file("<results>", STUDY.campaign),
    log:
        f"<logs>/archive/{STUDY.campaign}.log",
    conda:
        "../../envs/analysis.yaml"
    params:
        config=configuration_to_archive(),
        catalogue=catalogue_to_archive(),
    script:
        "../scripts/archive.py"
