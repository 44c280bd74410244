# Needs config/models.yaml and the study's own entries. Leaves resources/models/{model}.gguf, checked against its sha256.
# Nothing here has a parameter that differs between studies and is not in its path: else one
# study would make the runs of another stale.


rule fetch_model:
    """Bring one pinned model file here and check every byte of it."""
    output:
        "resources/models/{model}.gguf",
    log:
        "logs/resources/fetch_model/{model}.log",
    priority: BEFORE_RUNS
    conda:
        "../../envs/analysis.yaml"
    params:
        entry=identity_of_model,
        lock_file="resources/models.lock.json",
    script:
        "../scripts/fetch_model.py"
