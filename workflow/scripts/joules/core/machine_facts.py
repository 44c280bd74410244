"""What a record says of the machine and of its instrument, as it is stored.

What cannot be known on a machine is None. Nothing here names its owner or address, nor its host,
but for the node of a cluster.
"""

from typing import Annotated, Literal

from msgspec import UNSET, Meta, UnsetType, field

from joules.core.energy import WALL
from joules.core.meters import MeterFacts
from joules.core.values import EnergyChoice, Stored, Tier


class Component(Stored, frozen=True, omit_defaults=True):
    """What the energy of one component comes from; what does not apply to a source is left out."""

    source: Annotated[
        str,
        Meta(description="Counter, power readings or model; `none` and `off`: no energy."),
    ]
    tier: Annotated[
        Tier | None, Meta(description="Version 3. Of this component alone; null without energy.")
    ] = None
    files: Annotated[list[str] | None, Meta(description="The counters' files.")] = None
    wrap_range_j: Annotated[
        list[float] | float | None | UnsetType,
        Meta(
            description="Energy after which a counter starts again at 0, in joule: per file, or "
            "the smallest of them."
        ),
    ] = UNSET
    sampling_interval_s: Annotated[float | None, Meta(description="Time between readings.")] = None
    devices: Annotated[int | None, Meta(description="Number of GPUs.")] = None
    power_w: Annotated[int | float | None, Meta(description="Constant power; 0: it is off.")] = None
    model_power_w: Annotated[
        int | float | None,
        Meta(description="Where energy is a model: the processor's design power."),
    ] = None
    generic_model: Annotated[
        bool | None,
        Meta(description="Where energy is a model: whether the processor was unknown to it."),
    ] = None


class CodeCarbonFacts(Stored, frozen=True):
    """Version and arguments of the tracker."""

    version: Annotated[str, Meta(description="Of the package.")]
    measure_power_secs: Annotated[float, Meta(description="Time between readings, in seconds.")]
    tracking_mode: Annotated[str, Meta(description="Whose energy: `machine` is all of it.")]
    force_ram_power: Annotated[
        int | float,
        Meta(description="Constant power of the memory in watt; 0: no such model."),
    ]
    country_iso_code: Annotated[str, Meta(description="Three letters; for emissions alone.")]


class Instrument(Stored, frozen=True):
    """What the energy figures come from."""

    tier: Annotated[
        Tier,
        Meta(
            description="Counters; integrated power; a model of power. The lowest of the "
            "components that the headline adds up."
        ),
    ]
    tier_reason: Annotated[str, Meta(description="Why it is not higher.")]
    components: Annotated[
        dict[str, Component],
        Meta(description="Per component: source, files, sampling interval, wrap range."),
    ]
    codecarbon: Annotated[
        CodeCarbonFacts, Meta(description="Version and arguments of the tracker.")
    ]
    modules_sha256: Annotated[str, Meta(description="Hash of the instrument's own modules.")]
    headline: Annotated[
        EnergyChoice,
        Meta(description="Version 3. What the headline adds up: see the configuration."),
    ] = "processor"
    meters: Annotated[
        dict[str, MeterFacts] | UnsetType,
        Meta(description="Version 3. The meters of the configuration; absent where it names none."),
    ] = UNSET

    def wall_meter(self) -> MeterFacts | None:
        """Return the meter of the whole machine; None where there was none."""
        return None if isinstance(self.meters, UnsetType) else self.meters.get(WALL)


class Virtualisation(Stored, frozen=True):
    """Whether this is a virtual machine or a container, as far as it shows."""

    hypervisor_flag: Annotated[bool, Meta(description="The processor says `hypervisor`.")]
    container_file: Annotated[bool, Meta(description="A container's marker file is there.")]
    vm: Annotated[
        str | None, Meta(description="By systemd-detect-virt; null where that is missing.")
    ]
    container: Annotated[
        str | None, Meta(description="By systemd-detect-virt; null where that is missing.")
    ]


class Commit(Stored, frozen=True):
    """The version of the workflow that measured; null outside a git repository."""

    sha: Annotated[str | None, Meta(description="Hash of the commit.")]
    dirty: Annotated[bool | None, Meta(description="Whether tracked files were changed.")]


class MachineFacts(Stored, frozen=True, kw_only=True):
    """What does not change during a study: hardware, system, software."""

    cpu: Annotated[str, Meta(description="The processor's name as the system gives it.")]
    architecture: Annotated[str, Meta(description="For example x86_64.")]
    physical_cores: Annotated[int | None, Meta(description="Of the machine.")]
    logical_cores: Annotated[int | None, Meta(description="Of the machine.")]
    performance_cores: Annotated[
        int | None,
        Meta(description="Version 3. Of a hybrid processor, in threads; null for any other."),
    ] = None
    efficiency_cores: Annotated[
        int | None,
        Meta(description="Version 3. Of a hybrid processor, in threads; null for any other."),
    ] = None
    microcode: Annotated[
        str | None, Meta(description="Version 3. Of the processor; null where not shown.")
    ] = None
    usable_cores: Annotated[
        int,
        Meta(
            description="Physical cores that affinity and control groups leave; logical ones "
            "where the machine does not show its physical cores."
        ),
    ]
    cgroup_quota_cores: Annotated[
        float | None, Meta(description="CPU quota of the control groups; null without one.")
    ]
    memory_bytes: Annotated[int, Meta(description="Size of the memory.")]
    sgx: Annotated[bool, Meta(description="Whether the processor says `sgx`; it blurs counters.")]
    virtualisation: Annotated[Virtualisation, Meta(description="Virtual machine or container.")]
    kernel: Annotated[str, Meta(description="Its release.")]
    os: Annotated[str, Meta(description="The system's name.")]
    python: Annotated[str, Meta(description="Version of the harness's Python.")]
    packages: Annotated[dict[str, str | None], Meta(description="Versions; null: not installed.")]
    commit: Annotated[Commit, Meta(description="The version of the workflow.")]


class Temperature(Stored, frozen=True):
    """One reading of one sensor."""

    sensor: Annotated[str, Meta(description="Chip and label.")]
    celsius: Annotated[float, Meta(description="Temperature in °C.")]


class Pressure(Stored, frozen=True):
    """How long work waited for a resource: the first line of each file in /proc/pressure."""

    cpu: Annotated[list[str] | None, Meta(description="For a core.")]
    memory: Annotated[list[str] | None, Meta(description="For memory.")]
    io: Annotated[list[str] | None, Meta(description="For a disk.")]


class Gpu(Stored, frozen=True, kw_only=True):
    """State of one NVIDIA GPU; a value that it does not give is null."""

    name: Annotated[str | None, Meta(description="As NVML gives it.")]
    driver: Annotated[str, Meta(description="Version of the driver.")]
    memory_bytes: Annotated[int | None, Meta(description="Size of its memory.")]
    power_limit_w: Annotated[float | None, Meta(description="The limit that is enforced.")]
    temperature_c: Annotated[int | float | None, Meta(description="Temperature in °C.")]
    clocks_held_by: Annotated[
        list[str] | None,
        Meta(description="Limits of heat or power that hold the clocks down; null where not told."),
    ]
    held_by_heat_ns: Annotated[
        int | None,
        Meta(description="How long heat held the clocks down since the driver was loaded."),
    ]


class MachineState(Stored, frozen=True, kw_only=True):
    """What may change from run to run: clocks, temperatures, load, memory, power."""

    governors: Annotated[list[str], Meta(description="Distinct governors of the cores.")]
    energy_preferences: Annotated[
        list[str], Meta(description="Distinct energy performance preferences of the cores.")
    ]
    turbo_off: Annotated[str | None, Meta(description="intel_pstate/no_turbo.")]
    boost: Annotated[str | None, Meta(description="cpufreq/boost.")]
    smt: Annotated[str | None, Meta(description="smt/active: two threads on a core.")]
    frequency_mhz: Annotated[list[float], Meta(description="Per core, in MHz.")]
    throttle_count: Annotated[
        int | None,
        Meta(
            description="Times that heat slowed a core since the start of the system; null (as "
            "from version 3) where the processor does not count them."
        ),
    ]
    temperatures: Annotated[list[Temperature], Meta(description="Of every sensor.")]
    load_average: Annotated[list[float], Meta(description="Over 1, 5 and 15 minutes.")]
    pressure: Annotated[Pressure, Meta(description="How long work waited.")]
    memory_available_bytes: Annotated[
        int | None, Meta(description="Memory that is free to use; null where not shown.")
    ]
    swap_in_bytes: Annotated[
        int | None,
        Meta(description="Since the start of the system; null where not counted."),
    ]
    swap_out_bytes: Annotated[
        int | None,
        Meta(description="Since the start of the system; null where not counted."),
    ]
    power_plugged: Annotated[
        bool | None, Meta(description="Whether mains power is on; null without a battery.")
    ]
    platform_profile: Annotated[str | None, Meta(description="As ACPI gives it.")]
    boot_time: Annotated[
        float | None, Meta(description="Unix time, in seconds; null where not shown.")
    ]
    gpus: Annotated[list[Gpu], Meta(description="Version 2. Per NVIDIA GPU.")] = field(
        default_factory=list
    )


class MachineBefore(MachineState, frozen=True, kw_only=True):
    """The machine before a run: its state, and what was seen while it was watched."""

    busy_share: Annotated[
        float, Meta(description="Share of the whole machine that was busy in the preflight.")
    ]
    waited_s: Annotated[
        float | None,
        Meta(description="Version 2. How long it was watched until it was quiet, or the cap."),
    ] = None
    temperature_c: Annotated[
        float | None, Meta(description="Of the processor, in °C; null without a sensor.")
    ]
    machine: Annotated[MachineFacts, Meta(description="Hardware, system, software.")]


class ForeignProcess(Stored, frozen=True):
    """A process that is not ours."""

    name: Annotated[str | None, Meta(description="Its name, without arguments.")]
    cpu_s: Annotated[float, Meta(description="CPU time that it used in the tasks window.")]


class ForeignUse(Stored, frozen=True):
    """What other processes used during the tasks window, as shares of the whole machine."""

    share: Annotated[float, Meta(description="Of all other processes together.")]
    steal_share: Annotated[
        float | None, Meta(description="Taken by the hypervisor; null where not counted.")
    ]
    top: Annotated[list[ForeignProcess], Meta(description="Those that used most.")]


class MachineAfter(MachineState, frozen=True, kw_only=True):
    """The machine after a run; its GPUs as they were when the tasks ended."""

    foreign_cpu: Annotated[ForeignUse, Meta(description="What other processes used.")]
    clock_jump_s: Annotated[
        float, Meta(description="By how much the wall clock moved against the monotonic clock.")
    ]


class Allocation(Stored, frozen=True, kw_only=True):
    """What a batch system gave the job that measured: a node, and whether for itself."""

    system: Annotated[Literal["slurm"], Meta(description="The batch system.")]
    job: Annotated[str, Meta(description="Its id; of an array's task as `array_task`.")]
    node: Annotated[str | None, Meta(description="As the batch system calls it.")]
    partition: Annotated[str | None, Meta(description="As the batch system calls it.")]
    exclusive: Annotated[
        bool | None,
        Meta(description="Whether no other job may share the node; null where that is not known."),
    ]
    basis: Annotated[
        str, Meta(description="What `exclusive` follows from, or why it is not known.")
    ]


class StepEnergy(Stored, frozen=True, kw_only=True):
    """What the batch system itself counted while the tasks ran: a third opinion, used nowhere."""

    joules: Annotated[
        float | None,
        Meta(description="Of the whole node between two readings; null where that is not known."),
    ]
    duration_s: Annotated[
        float, Meta(description="Between the readings: just before the tasks and just after.")
    ]
    basis: Annotated[str, Meta(description="What `joules` was read from, or why it is not known.")]


class Environment(Stored, frozen=True):
    """The machine, before and after."""

    before: Annotated[
        MachineBefore,
        Meta(
            description="CPU, governor, turbo, temperatures, load, pressure, swap, power supply, "
            "virtualisation."
        ),
    ]
    after: Annotated[MachineAfter, Meta(description="The same, and what others did.")]
    allocation: Annotated[
        Allocation | None,
        Meta(description="Version 3. Of the batch system's job that measured; null outside one."),
    ] = None
    lock: Annotated[
        list[str] | None,
        Meta(
            description="Version 3. Files of the machine's lock that were held, so that whoever "
            "shares one of them waited; null where the record does not say."
        ),
    ] = None
    step_energy: Annotated[
        StepEnergy | None,
        Meta(
            description="Version 3. Slurm's own count of the tasks' energy, to look at and not to "
            "trust: on some processors it counts wrongly, and it may lag behind. Nothing is "
            "computed from it; null outside a job, and where the record does not say."
        ),
    ] = None
