"""From pinned model files to the article: download, measure, grade, analyse, draw, write."""

import sys
from pathlib import Path

from snakemake.utils import min_version

min_version("9.27.1")

# The one place that makes the package known: to rule files here, to scripts by Snakemake.
sys.path.insert(0, str(Path(workflow.basedir, "workflow/scripts")))


# A configuration of one's own stands on the defaults alone; without one, this is the demonstration.
if not workflow.configfiles:

    configfile: "config/config.yaml"


include: "workflow/rules/common.smk"


# Everything of one study lies in one folder, so that two studies in one clone do not touch:
# <results>/records/{model}/{arm}/{kind}/{repetition}.json is one run.
pathvars:
    results=paths.results_folder(STUDY.study),
    logs=paths.logs_folder(STUDY.study),


wildcard_constraints:
    model="[A-Za-z0-9._-]+",
    arm="[A-Za-z0-9._-]+",
    runtime="[a-z0-9_]+",
    kind="task|fixed|control|quality",
    repetition=r"\d+",


report: "workflow/report/workflow.rst"


include: "workflow/rules/resources.smk"
include: "workflow/rules/runtimes.smk"
include: "workflow/rules/measure.smk"
include: "workflow/rules/grade.smk"
include: "workflow/rules/analyse.smk"
include: "workflow/rules/figures.smk"
include: "workflow/rules/article.smk"
include: "workflow/rules/archive.smk"


onstart:
    require_meter()
    end_on_hangup()
    sleep_between_jobs()


rule all:
    """The article with its figures, tables, summaries and archive."""
    default_target: True
    input:
        rules.write_article.output,
        rules.typeset.output,
        rules.figures.input,
        rules.tables.input,
        rules.archive.output,


rule article:
    """The article as Markdown, HTML and PDF."""
    input:
        rules.write_article.output,
        rules.typeset.output,


rule records:
    """Every run of the study, measured and graded."""
    input:
        agreements(),
        records_of(),
        grades_of(),
