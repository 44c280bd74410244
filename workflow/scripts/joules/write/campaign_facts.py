"""What the records of a campaign say of machine, software, models and time, each state once."""

import dataclasses
import datetime
from collections.abc import Iterable

import msgspec

from joules.core.inference import Facts
from joules.core.machine_facts import MachineFacts
from joules.core.record import ModelFacts, Record


@dataclasses.dataclass(frozen=True)
class CampaignFacts:
    """What records say of machine and software, each distinct state once, and of the time.

    Attributes:
        machines: the machines with their packages.
        software: versions and builds of the instrument and of each runtime, by name.
        models: the model files, in the order of their names.
        start: the start of the first run, UTC in ISO 8601, to the second.
        end: the end of the last run, likewise.
    """

    machines: list[MachineFacts]
    software: dict[str, list[Facts]]
    models: list[ModelFacts]
    start: str
    end: str

    @property
    def first_day(self) -> str:
        """The day of the first run, YYYY-MM-DD."""
        return self.start[:10]

    @property
    def commits(self) -> list[str]:
        """The commits that measured, in the order of the machines' states; those that are known."""
        known = [each.commit.sha for each in self.machines if each.commit.sha is not None]
        return list(dict.fromkeys(known))

    def versions_of(self, package: str) -> list[str]:
        """Return the versions of a Python package that measured; those that are known."""
        known = [each.packages.get(package) for each in self.machines]
        return list(dict.fromkeys(version for version in known if version is not None))


def facts_of(records: Iterable[Record]) -> CampaignFacts:
    """Return what records say; states are in the records' order. There must be a record."""
    machines: list[MachineFacts] = []
    software: dict[str, list[Facts]] = {}
    models: dict[str, ModelFacts] = {}
    moments: list[datetime.datetime] = []
    for record in records:
        machine = record.environment.before.machine
        if machine not in machines:
            machines.append(machine)
        states = {
            "codecarbon": msgspec.to_builtins(record.instrument.codecarbon),
            record.arm_name: record.runtime.facts,
        }
        for name, state in states.items():
            seen = software.setdefault(name, [])
            if state not in seen:
                seen.append(state)
        models.setdefault(record.model.name, record.model)
        for window in record.windows:
            start = datetime.datetime.fromisoformat(window.start_wall)
            moments += [start, start + datetime.timedelta(seconds=window.duration_s)]
    return CampaignFacts(
        machines,
        software,
        [models[name] for name in sorted(models)],
        min(moments).isoformat(timespec="seconds"),
        max(moments).isoformat(timespec="seconds"),
    )
