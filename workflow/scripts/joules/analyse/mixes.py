"""What records that are compared must share: the machine, each runtime's build, the instrument.

A difference is refused by name, unless the configuration says that it is stated instead. Then it
may lie between blocks; a pair of runs that differ within a block is left out (see
`joules.analyse.pairs`).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import msgspec

from joules.core.errors import UserError
from joules.core.record import Record

OnMix = Literal["refuse", "state"]
# What is known of a thing, by the names of its parts; what a record does not hold is absent.
Identity = dict[str, str]

SHOWN_OF_A_HASH = 12
BYTES_PER_GIB = 2**30
AGAIN = "Measure again what is out of date: snakemake --forcerun measure -- TARGET."


class Mixing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is done with records that differ in something; each is a key of the configuration."""

    mixed_instruments: OnMix = "refuse"
    mixed_machines: OnMix = "refuse"
    mixed_runtimes: OnMix = "refuse"


def _shown(value: object) -> str:
    return "not shown" if value is None else str(value)


def machine_of(record: Record) -> Identity:
    """Return the machine of a record, whose older versions say nothing of the microcode.

    The memory is told in whole GiB: what the system keeps of it for itself differs from start to
    start.
    """
    facts = record.environment.before.machine
    identity = {
        "processor": facts.cpu,
        "architecture": facts.architecture,
        "physical cores": _shown(facts.physical_cores),
        "logical cores": _shown(facts.logical_cores),
        "memory": f"{facts.memory_bytes / BYTES_PER_GIB:.0f} GiB",
        "kernel": facts.kernel,
    }
    if record.fingerprint is not None:
        identity["microcode"] = _shown(record.fingerprint.machine.microcode)
    return identity


def build_of(record: Record) -> Identity:
    """Return what answered: version, program, libraries and, where it is held, our code for it."""
    facts = record.runtime.facts
    hashes = {
        "program": facts.get("binary_sha256"),
        "libraries": facts.get("libraries_sha256"),
    }
    if record.fingerprint is not None:
        hashes["adapter"] = record.fingerprint.runtime.code_sha256
    known = {name: str(value)[:SHOWN_OF_A_HASH] for name, value in hashes.items() if value}
    return {"version": _shown(facts.get("version")), **known}


def instrument_of(record: Record) -> str:
    """Return the hash over the measuring code."""
    if record.fingerprint is None:
        return record.instrument.modules_sha256
    return record.fingerprint.instrument_sha256


def text_of(identity: Identity) -> str:
    """Return an identity in words; equal ones give equal words."""
    return ", ".join(f"{name} {value}" for name, value in identity.items())


class Mixes:
    """Collects what the records of a study do not share."""

    def __init__(self) -> None:
        self._seen: dict[tuple[str, str], dict[str, dict[str, list[Path]]]] = {}

    def add(self, record: Record, path: Path) -> None:
        """Take in one record, which lies at `path`."""
        self._add("mixed_machines", "the machine", machine_of(record), path)
        runtime = f"the build of the runtime {record.arm_name}"
        self._add("mixed_runtimes", runtime, build_of(record), path)
        version = {"modules": instrument_of(record)[:SHOWN_OF_A_HASH]}
        self._add("mixed_instruments", "the version of the instrument", version, path)

    def _add(self, key: str, what: str, identity: Identity, path: Path) -> None:
        parts = self._seen.setdefault((key, what), {})
        for name, value in identity.items():
            parts.setdefault(name, {}).setdefault(value, []).append(path)

    def refuse(self, mixing: Mixing) -> None:
        """Raise UserError, with names and files, for the first mix that may not be stated."""
        for (key, what), parts in self._seen.items():
            different = [
                f"{name}: {_listed(values)}" for name, values in parts.items() if len(values) > 1
            ]
            if different and getattr(mixing, key) != "state":
                raise UserError(
                    f"The records differ in {what} ({'; '.join(different)}). All must have the "
                    f"same, or they cannot be compared. {AGAIN} Or set `{key}: state` in the "
                    "config: runs are then compared within blocks that share it, and the mix is "
                    "stated."
                )


def _listed(values: Mapping[str, list[Path]]) -> str:
    return ", ".join(
        f"{value} in {paths[0]}" + (f" and {len(paths) - 1} more" if len(paths) > 1 else "")
        for value, paths in values.items()
    )
