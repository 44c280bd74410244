"""What a record says of the job that measured it, and of the lock that was held."""

import dataclasses
import os
import re

import pytest
from scripted import PARAMETERS, STRICT, Scripted, assigned, run
from small_study import CHECKOUT

from joules.core import stored
from joules.core.machine_facts import Allocation
from joules.machine import machine_state
from joules.measure import campaign

SHARED = Allocation(
    system="slurm",
    job="17_0",
    node="n1",
    partition="all",
    exclusive=False,
    basis="OverSubscribe=OK, 1 of 2 CPUs",
)


@pytest.mark.parametrize(("parameters", "invalidates"), [(PARAMETERS, False), (STRICT, True)])
def test_a_record_holds_job_node_sharing_and_lock_and_the_rule_that_was_broken(
    tmp_path, parameters, invalidates
):
    parts, measured = run(Scripted(), parameters=parameters, allocation=SHARED)
    made = dataclasses.replace(assigned(tmp_path), allocation=SHARED)
    machine = machine_state.machine_facts(campaign.PACKAGES)
    record = campaign.record_of(made, 1, Scripted(), measured.facts(), machine, parts)
    stored.write_record(tmp_path / "1.json", record)
    kept = stored.read_record(tmp_path / "1.json")
    assert kept.environment.allocation == SHARED
    assert kept.environment.lock == ["/run/lock/of-this-test"]
    (rule,) = [each for each in kept.validity.codes if each.code == "not_exclusive"]
    assert (rule.seen, rule.limit, rule.invalidates) == (False, True, invalidates)


def test_a_record_holds_what_slurm_counted_while_the_tasks_ran(tmp_path, monkeypatch):
    seconds = "date +%s%N | cut -c 1-13"  # a node of 1,000 W: a joule each millisecond
    (tmp_path / "sstat").write_text(f"#!/bin/sh\n{seconds}\n")
    (tmp_path / "sstat").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    parts, measured = run(Scripted())
    machine = machine_state.machine_facts(campaign.PACKAGES)
    record = campaign.record_of(assigned(tmp_path), 1, Scripted(), measured.facts(), machine, parts)
    counted = record.environment.step_energy
    (tasks,) = [window for window in record.windows if window.name == "tasks"]
    assert counted.joules >= 1000 * tasks.duration_s
    assert counted.duration_s >= tasks.duration_s
    assert re.fullmatch(r"ConsumedEnergyRaw of sstat: \d+, then \d+", counted.basis)


def test_outside_a_job_the_rule_is_not_checked_and_an_older_record_says_nothing_of_it(tmp_path):
    parts, _ = run(Scripted())
    checks = {each.code: each for each in parts.validity.checks}
    assert parts.step_energy is None
    assert checks["not_exclusive"].not_checked == "no job of a batch system measures"
    older = stored.read_record(CHECKOUT / "tests/data/record-schema-2.json")
    told = older.environment
    assert (told.allocation, told.lock, told.step_energy) == (None, None, None)
