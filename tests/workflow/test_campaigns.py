"""Every committed campaign is whole, readable and can be rebuilt without measuring."""

import json
import subprocess
import sys

import jsonschema
import pytest
import yaml
from small_study import CHECKOUT, jobs_of

from joules.archive import verify
from joules.schedule import plan

CAMPAIGNS = sorted((CHECKOUT / "data/measurements").glob("*/config.yaml"))


def test_at_least_one_campaign_is_committed():
    assert CAMPAIGNS


@pytest.mark.parametrize("config_file", CAMPAIGNS, ids=lambda path: path.parent.name)
def test_a_campaign_is_what_was_archived_and_complete(config_file):
    folder = config_file.parent
    verify(folder)
    config = yaml.safe_load(config_file.read_text())
    schema = yaml.safe_load((CHECKOUT / "workflow/schemas/record.schema.yaml").read_text())
    runs = plan(*(config[key] for key in ("models", "runtimes", "kinds", "blocks", "seed")))
    for run in runs:
        where = f"{run.model}/{run.runtime}/{run.kind}/{run.repetition}.json"
        jsonschema.validate(json.loads((folder / "records" / where).read_text()), schema)
        assert (folder / "grades" / where).exists()


@pytest.mark.parametrize("config_file", CAMPAIGNS, ids=lambda path: path.parent.name)
def test_a_campaign_is_rebuilt_without_model_runtime_or_meter(config_file):
    source = f"measurements={{source: archive, campaign: {config_file.parent.name}}}"
    done = subprocess.run(
        # Everything is planned, whatever an earlier rebuild has left.
        [sys.executable, "-m", "snakemake", "--dry-run", "--forceall", "--cores", "1"]
        + ["--config", source, "--", "article", "figures"],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
    )
    jobs = jobs_of(done.stdout + done.stderr)
    measuring = {"fetch_model", "provide_runtime", "write_prompts", "warm_up", "agree", "measure"}
    assert not {*measuring, "grade"} & jobs.keys()
    assert {"tabulate", "claim", "plot", "typeset"} <= jobs.keys()
