# Shared by all rules: the configuration, checked; the plan of runs; input functions.
# Needs config/config.yaml (or --configfile), config/models.yaml; leaves names, no files.

from pathlib import Path
from zlib import crc32

import yaml

from snakemake.exceptions import WorkflowError
from snakemake.utils import validate

from workflow.scripts.joules.schedule import plan

# Everything that must come before a run is more urgent than any run; see `urgency`.
BEFORE_RUNS = 1000000


def use_archive():
    """With an archived campaign, take models, runtimes and all the rest from its own config."""
    chosen = config["measurements"]
    if chosen["source"] != "archive":
        return
    folder = Path("data/measurements", chosen["campaign"] or "")
    if not chosen["campaign"] or not (folder / "config.yaml").exists():
        known = sorted(path.parent.name for path in folder.parent.glob("*/config.yaml"))
        raise WorkflowError(
            f"measurements.campaign is {chosen['campaign']!r}; {folder}/config.yaml does not exist. "
            f"Expected one of: {', '.join(known) or 'none is archived'}. "
            "Correct the name, or set measurements.source to `measure`."
        )
    archived = yaml.safe_load((folder / "config.yaml").read_text())
    config.clear()
    config.update(archived)
    config["measurements"] = {"source": "archive", "campaign": chosen["campaign"]}
    config["study"] = f"archive/{chosen['campaign']}"


def check_names():
    """Refuse models that are not in the catalogue and runtimes that have no module."""
    for model in config["models"]:
        if model not in CATALOGUE:
            raise WorkflowError(
                f"Unknown model {model!r} in `models` of the config. Expected one of: "
                f"{', '.join(sorted(CATALOGUE))}. Correct it, or add it to config/models.yaml."
            )
    folder = Path(workflow.basedir, "workflow/scripts/joules/runtimes")
    known = sorted(path.stem for path in folder.glob("*.py") if path.stem != "__init__")
    for runtime in config["runtimes"]:
        if runtime not in known:
            raise WorkflowError(
                f"Unknown runtime {runtime!r} in `runtimes` of the config. Expected one of: "
                f"{', '.join(known)}. Correct it, or add a module of that name."
            )
        if runtime not in config["runtime_options"]:
            raise WorkflowError(
                f"`runtime_options` of the config has no entry for {runtime!r}; expected at least "
                "its `version`. Add it."
            )


def require_meter():
    """Refuse to start where two measurements could run side by side."""
    if "meter" not in workflow.global_resources:
        raise WorkflowError(
            "There is no limit on the resource `meter`, so runs would be measured side by side. "
            "It is set in profiles/default/profile.yaml; --resources on the command line replaces "
            "that. Add meter=1 to it."
        )


use_archive()
validate(config, schema="../schemas/config.schema.yaml")
config["campaign"] = config["measurements"]["campaign"] or config["study"]
ARCHIVED = config["measurements"]["source"] == "archive"
CATALOGUE = {}
if not ARCHIVED:
    catalogue = yaml.safe_load(Path("config/models.yaml").read_text())
    validate(catalogue, schema="../schemas/models.schema.yaml")
    CATALOGUE = catalogue["models"]
    STYLES = catalogue["prompt_styles"]
    check_names()

PLAN = {key: config[key] for key in ("models", "runtimes", "kinds", "blocks", "seed")}
RUNS = plan(**PLAN)
POSITION = {run: position for position, run in enumerate(RUNS, start=1)}


def urgency(wildcards):
    """Order the runs as the schedule says: the greedy scheduler takes the most urgent first."""
    run = (wildcards.model, wildcards.runtime, wildcards.kind, int(wildcards.repetition))
    return len(RUNS) + 1 - POSITION.get(run, len(RUNS))


def all_cores(wildcards):
    """Claim every core, so that nothing else of the workflow runs beside a measurement."""
    return workflow.cores


def source_folder():
    """Return where records and grades come from: this study, or an archived campaign."""
    return f"data/measurements/{config['campaign']}" if ARCHIVED else "<results>"


def records_of(folder, model=None):
    """Return the files of all runs, or of one model's, below `folder`: records or grades."""
    return [
        f"{source_folder()}/{folder}/{run.model}/{run.runtime}/{run.kind}/{run.repetition}.json"
        for run in RUNS
        if model in (None, run.model)
    ]


def records_of_model(wildcards):
    """Return the records of the rule's model."""
    return records_of("records", wildcards.model)


def grades_of_model(wildcards):
    """Return the grades of the rule's model."""
    return records_of("grades", wildcards.model)


def agreement_of_model(wildcards):
    """Return the agreement of the rule's model."""
    return [f"{source_folder()}/agreement/{wildcards.model}.json"]


def agreements():
    """Return the agreement of every model."""
    return [f"{source_folder()}/agreement/{model}.json" for model in config["models"]]


def variant_of(runtime):
    """Return the name of what a runtime's options make: version, way, and a binary of one's own."""
    options = config["runtime_options"][runtime]
    parts = [options["version"], options.get("from", "")]
    if options.get("binary"):
        parts.append(f"{crc32(options['binary'].encode()):08x}")
    return "-".join(part for part in parts if part)


def provided(wildcards):
    """Return the facts file of the rule's runtime."""
    return f"resources/runtimes/{wildcards.runtime}/{variant_of(wildcards.runtime)}.json"


def options_of(wildcards):
    """Return the options of the rule's runtime."""
    return config["runtime_options"][wildcards.runtime]


def source_of_model(wildcards):
    """Return what decides a model file's bytes: where it is, its hash and its size."""
    entry = CATALOGUE[wildcards.model]
    return {key: entry[key] for key in ("path", "url", "sha256", "bytes") if key in entry}


def prompting_of_model(wildcards):
    """Return what decides a model's prompts, from its catalogue entry."""
    entry = CATALOGUE[wildcards.model]
    keys = ("sha256", "prompt_style", "newline", "chat_template", "never_ends")
    chosen = {key: entry[key] for key in keys if key in entry}
    return {**chosen, "cut": STYLES[entry["prompt_style"]]["cut"]}


def max_tokens_of(wildcards):
    """Return the most tokens of an answer: the study's, or those of the model's prompt style."""
    asked = config["settings"]["max_tokens"]
    style = CATALOGUE[wildcards.model]["prompt_style"]
    return STYLES[style]["max_tokens"] if asked == "catalogue" else asked


def warming(wildcards):
    """Return the settings that a warm-up depends on."""
    return {
        "settings": config["settings"],
        "require": config["require"],
        "options": options_of(wildcards),
    }


def measuring(wildcards):
    """Return every setting that a record depends on; a change of any makes it stale."""
    kept = ("settings", "windows", "settle", "limits", "require", "require_tier")
    return {
        **{key: config[key] for key in kept},
        "country_iso_code": config["carbon"]["country_iso_code"],
        "entry": prompting_of_model(wildcards),
        "options": options_of(wildcards),
    }


def archived_files():
    """Return what an archive holds beside schedule, config and machine facts."""
    prompts = [f"{source_folder()}/prompts/{model}.jsonl" for model in config["models"]]
    return records_of("records") + records_of("grades") + prompts + agreements()


def modules(script, *names):
    """Return a rule's script and the modules it uses: inputs, so that an edit runs it again."""
    return [f"workflow/scripts/{script}.py"] + [
        f"workflow/scripts/joules/{name}.py" for name in names
    ]


def analysing():
    """Return what the analysis needs to know of the configuration."""
    kept = ("study", "campaign", "demonstration", "carbon", "mixed_instruments", "limits")
    return {**{key: config[key] for key in kept}, **PLAN, "problems": config["problems"]}


def archived_config():
    """Return the configuration as it can be read again; the campaign is the archive's name.

    A campaign that is packed again keeps the configuration that it came with.
    """
    if ARCHIVED:
        return yaml.safe_load(Path(source_folder(), "config.yaml").read_text())
    kept = {key: value for key, value in config.items() if key != "campaign"}
    return {**kept, "measurements": {"source": "measure", "campaign": ""}}
