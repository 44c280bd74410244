# Needs a record and the prompts it answered. Leaves one verdict per task, by running the answers
# in a sandbox. Its priority is the lowest, so that it never comes between two runs.


rule grade:
    """Run the answers of one run in the sandbox and judge them by HumanEval's tests."""
    input:
        record="<results>/records/{model}/{arm}/{kind}/{repetition}.json",
        prompts="<results>/prompts/{model}.jsonl",
    output:
        "<results>/grades/{model}/{arm}/{kind}/{repetition}.json",
    log:
        "<logs>/grade/{model}/{arm}/{kind}/{repetition}.log",
    conda:
        "../../envs/analysis.yaml"
    threads: 2
    script:
        "../scripts/grade.py"
