"""What a record says of the job that measured it, and of the lock that was held."""

import dataclasses

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


def test_outside_a_job_the_rule_is_not_checked_and_an_older_record_says_nothing_of_it(tmp_path):
    parts, _ = run(Scripted())
    checks = {each.code: each for each in parts.validity.checks}
    assert checks["not_exclusive"].not_checked == "no job of a batch system measures"
    older = stored.read_record(CHECKOUT / "tests/data/record-schema-2.json")
    assert (older.environment.allocation, older.environment.lock) == (None, None)
