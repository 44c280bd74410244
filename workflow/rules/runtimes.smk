# Needs the runtime's options in the config. Leaves resources/runtimes/{runtime}/{variant}.json,
# the facts of what the runtime's own `provide` installed, built or checked beside it.


rule provide_runtime:
    """Install, build or check what one runtime needs, once per version and way."""
    output:
        "resources/runtimes/{runtime}/{variant}.json",
    log:
        "logs/resources/provide_runtime/{runtime}-{variant}.log",
    wildcard_constraints:
        variant="[A-Za-z0-9._-]+",
    priority: BEFORE_RUNS
    conda:
        "../../envs/runtime-{runtime}.yaml"
    threads: all_cores
    params:
        options=provided_options,
    script:
        "../scripts/provide_runtime.py"
