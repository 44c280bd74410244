# Needs model files and provided runtimes, and takes records that were imported. Leaves prompts,
# warm-ups, agreements, the schedule and one record per run. Measuring rules claim every core and the
# meter, so that nothing of the workflow runs beside them. The number of blocks and the positions are
# no parameters: more blocks must leave finished runs alone.


rule write_prompts:
    """Make the literal prompts of one model, with their token ids and hashes."""
    input:
        model="resources/models/{model}.gguf",
        settle="data/warm_up_prompts.jsonl",
    output:
        "<results>/prompts/{model}.jsonl",
    log:
        "<logs>/write_prompts/{model}.log",
    priority: BEFORE_RUNS
    conda:
        "../../envs/runtime-llama_cpp.yaml"
    params:
        entry=prompting_of_model,
        problems=STUDY.problems,
        seed=STUDY.seed,
        context_length=STUDY.settings.context_length,
        max_tokens=max_tokens_of_model,
    script:
        "../scripts/write_prompts.py"


rule warm_up:
    """Prove that one model works on one arm: load, answer, count."""
    input:
        model="resources/models/{model}.gguf",
        prompts="<results>/prompts/{model}.jsonl",
        runtime=provided,
    output:
        "<results>/warm_up/{model}/{arm}.json",
    log:
        "<logs>/warm_up/{model}/{arm}.log",
    priority: BEFORE_RUNS
    retries: 0
    conda:
        environment_of_arm
    threads: all_cores
    resources:
        meter=1,
    params:
        parameters=warming,
    script:
        "../scripts/warm_up.py"


rule agree:
    """Compare the arms' prompt counts and answers for one model."""
    input:
        collect("<results>/warm_up/{{model}}/{arm}.json", arm=STUDY.compared),
    output:
        "<results>/agreement/{model}.json",
    log:
        "<logs>/agree/{model}.log",
        found="<logs>/agree/{model}.json",
    priority: BEFORE_RUNS
    conda:
        "../../envs/runtime-llama_cpp.yaml"
    params:
        kinds=list(STUDY.kinds),
    script:
        "../scripts/agree.py"


rule write_schedule:
    """Write the planned order of runs, for people and for the archive."""
    output:
        "<results>/schedule.csv",
    log:
        "<logs>/write_schedule.log",
    conda:
        "../../envs/analysis.yaml"
    params:
        plan={
            "models": list(STUDY.models),
            "arms": list(STUDY.compared),
            "kinds": list(STUDY.kinds),
            "blocks": STUDY.blocks,
            "seed": STUDY.seed,
        },
    script:
        "../scripts/write_schedule.py"


rule measure:
    """Measure one run: one model on one arm in one block."""
    input:
        model="resources/models/{model}.gguf",
        prompts="<results>/prompts/{model}.jsonl",
        warm_up="<results>/warm_up/{model}/{arm}.json",
        runtime=provided,
    output:
        "<results>/records/{model}/{arm}/{kind}/{repetition}.json",
    log:
        "<logs>/measure/{model}/{arm}/{kind}/{repetition}.log",
    priority: urgency_of_run
    retries: 0
    conda:
        environment_of_arm
    threads: all_cores
    resources:
        meter=1,
    params:
        parameters=measuring,
    script:
        "../scripts/measure.py"
