"""What records that are compared must share, as every record holds it."""

from typing import Annotated

from msgspec import Meta

from joules.core.values import Stored


class MachineIdentity(Stored, frozen=True, kw_only=True):
    """The machine, as far as its energy hangs on it."""

    cpu: Annotated[str, Meta(description="The processor's name.")]
    architecture: Annotated[str, Meta(description="For example x86_64.")]
    physical_cores: Annotated[int | None, Meta(description="Of the machine.")]
    logical_cores: Annotated[int | None, Meta(description="Of the machine.")]
    memory_bytes: Annotated[int, Meta(description="Size of the memory.")]
    kernel: Annotated[str, Meta(description="Its release.")]
    microcode: Annotated[str | None, Meta(description="Of the processor; null where not shown.")]


class RuntimeIdentity(Stored, frozen=True, kw_only=True):
    """The program that answered, and our code between it and the harness."""

    version: Annotated[str, Meta(description="Of the runtime.")]
    binary_sha256: Annotated[str | None, Meta(description="Of its program; null without one.")]
    libraries_sha256: Annotated[str | None, Meta(description="Of its libraries, where known.")]
    code_sha256: Annotated[str, Meta(description="Of its adapter and of what adapters share.")]


class Fingerprint(Stored, frozen=True):
    """What records that are compared must share; a mix is refused, or stated, by name."""

    machine: Annotated[MachineIdentity, Meta(description="Where it was measured.")]
    runtime: Annotated[RuntimeIdentity, Meta(description="What answered.")]
    instrument_sha256: Annotated[
        str, Meta(description="Of every module on the measuring path, the runtime's apart.")
    ]
