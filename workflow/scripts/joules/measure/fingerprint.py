"""What records that are compared must share: the machine, the runtime's build, our own code."""

import hashlib
import inspect
from collections.abc import Iterable
from pathlib import Path

from joules.core.fingerprint import Fingerprint, MachineIdentity, RuntimeIdentity
from joules.core.inference import Facts
from joules.core.machine_facts import MachineFacts
from joules.core.places import PACKAGE
from joules.runtimes import Runtime

# Whole rooms, so that a new module is part of it without being named here.
MEASURING_ROOMS = ("measure", "meters", "machine")
# Of those, what fetches, installs and queues, and measures nothing.
BESIDE_THE_PATH = ("machine/download", "machine/virtual_environments", "machine/lock")
MEASURING_MODULES = (
    "core/conditions",
    "core/energy",
    "core/inference",
    "core/known",
    "core/record",
    "core/units",
    # They count the tokens of answers: what a joule is divided by where a runtime counts none.
    "inputs/llama_cpp_bindings",
    "inputs/tokenizer",
)
RUNTIMES_SHARE = ("runtimes/__init__", "core/inference")


def _sha256_of(paths: Iterable[Path]) -> str:
    """Return one hash over the names and the bytes of source files."""
    digest = hashlib.sha256()
    for path in sorted(set(paths)):
        name = path.relative_to(PACKAGE) if path.is_relative_to(PACKAGE) else path.name
        digest.update(f"{name}\0{len(path.read_bytes())}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _modules(names: Iterable[str]) -> list[Path]:
    return [PACKAGE / f"{name}.py" for name in names]


def instrument_modules() -> list[Path]:
    """Return the source files that decide what a joule in a record means, a runtime's apart."""
    rooms = [path for room in MEASURING_ROOMS for path in (PACKAGE / room).rglob("*.py")]
    beside = _modules(BESIDE_THE_PATH)
    return [path for path in rooms if path not in beside] + _modules(MEASURING_MODULES)


def instrument_sha256() -> str:
    """Return one hash over all modules of the measuring path, the runtime's apart."""
    return _sha256_of(instrument_modules())


def runtime_modules(runtime: Runtime) -> list[Path]:
    """Return the source files between the harness and what answers: the adapter and its basis."""
    adapter = inspect.getsourcefile(type(runtime))
    assert adapter is not None
    shared = (PACKAGE / "runtimes/shared").rglob("*.py")
    return [Path(adapter), *shared, *_modules(RUNTIMES_SHARE)]


def _text(facts: Facts, name: str) -> str | None:
    value = facts.get(name)
    return None if value is None else str(value)


def fingerprint_of(machine: MachineFacts, runtime: Runtime, facts: Facts) -> Fingerprint:
    """Return the fingerprint of a run from the facts of its machine and of its runtime."""
    return Fingerprint(
        machine=MachineIdentity(
            cpu=machine.cpu,
            architecture=machine.architecture,
            physical_cores=machine.physical_cores,
            logical_cores=machine.logical_cores,
            memory_bytes=machine.memory_bytes,
            kernel=machine.kernel,
            microcode=machine.microcode,
        ),
        runtime=RuntimeIdentity(
            version=_text(facts, "version") or "unknown",
            binary_sha256=_text(facts, "binary_sha256"),
            libraries_sha256=_text(facts, "libraries_sha256"),
            code_sha256=_sha256_of(runtime_modules(runtime)),
        ),
        instrument_sha256=instrument_sha256(),
    )
