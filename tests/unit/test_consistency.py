"""Records of several machines, builds and versions of the instrument: refused, or stated."""

import msgspec
import pytest
import synthetic
from synthetic_tables import tables_of

from joules.analyse.comparison import compare
from joules.analyse.left_out_blocks import left_out_blocks
from joules.analyse.pairs import paired_blocks
from joules.core import stored
from joules.core.errors import UserError
from joules.core.fingerprint import Fingerprint, MachineIdentity, RuntimeIdentity
from joules.core.paths import run_of
from joules.write.study_facts import mixes_of

KEYS = ("mixed_instruments", "mixed_machines", "mixed_runtimes")


def fingerprint(record, microcode="0x1", adapter="a" * 64, instrument="i" * 64):
    """Return the fingerprint of a synthetic record."""
    facts = record.environment.before.machine
    return Fingerprint(
        machine=MachineIdentity(
            cpu=facts.cpu,
            architecture=facts.architecture,
            physical_cores=facts.physical_cores,
            logical_cores=facts.logical_cores,
            memory_bytes=facts.memory_bytes,
            kernel=facts.kernel,
            microcode=microcode,
        ),
        runtime=RuntimeIdentity(
            version="1.2.3", binary_sha256=None, libraries_sha256=None, code_sha256=adapter
        ),
        instrument_sha256=instrument,
    )


def with_machine(record, **facts):
    """Return a record of a machine with other facts."""
    machine = msgspec.structs.replace(record.environment.before.machine, **facts)
    before = msgspec.structs.replace(record.environment.before, machine=machine)
    environment = msgspec.structs.replace(record.environment, before=before)
    return msgspec.structs.replace(record, environment=environment)


def with_fact(record, **facts):
    """Return a record of a runtime with other facts."""
    runtime = msgspec.structs.replace(record.runtime, facts=record.runtime.facts | facts)
    return msgspec.structs.replace(record, runtime=runtime)


def marked(record, **parts):
    return msgspec.structs.replace(record, fingerprint=fingerprint(record, **parts))


# Per key of the configuration, what a message names, and a change that makes a record differ.
DIFFERENCES = [
    ("mixed_machines", "the machine (kernel: ", lambda r: with_machine(r, kernel="9.9")),
    ("mixed_machines", "the machine (processor: ", lambda r: with_machine(r, cpu="Another")),
    ("mixed_machines", "logical cores: ", lambda r: with_machine(r, logical_cores=77)),
    ("mixed_machines", "memory: ", lambda r: with_machine(r, memory_bytes=2**40)),
    ("mixed_machines", "microcode: ", lambda r: marked(r, microcode="0x2")),
    ("mixed_runtimes", "the build of the runtime ", lambda r: with_fact(r, version="9.9")),
    ("mixed_runtimes", "libraries: ", lambda r: with_fact(r, libraries_sha256="b" * 64)),
    ("mixed_runtimes", "program: ", lambda r: with_fact(r, binary_sha256="b" * 64)),
    ("mixed_runtimes", "adapter: ", lambda r: marked(r, adapter="b" * 64)),
    ("mixed_instruments", "version of the instrument", lambda r: marked(r, instrument="b" * 64)),
]


@pytest.fixture
def study(tmp_path):
    """A study of two blocks whose records all have a fingerprint, and hashes of their parts."""
    written = synthetic.write_study(tmp_path, blocks=2, models=("parrot-1m",))
    for path in written.records:
        record = with_fact(
            stored.read_record(path), binary_sha256="p" * 64, libraries_sha256="l" * 64
        )
        stored.write_record(path, marked(record))
    return written


def change(study, made, chosen):
    """Change the records that are chosen by their run; return their paths."""
    paths = [path for path in study.records if chosen(run_of(path))]
    for path in paths:
        stored.write_record(path, made(stored.read_record(path)))
    return paths


def stating(study, *keys):
    """Return a study whose configuration states these mixes."""
    config = msgspec.structs.replace(study.config, **dict.fromkeys(keys, "state"))
    return type(study)(study.folder, config, study.records, study.grades, study.agreements)


@pytest.mark.parametrize(("key", "words", "made"), DIFFERENCES)
def test_a_mix_is_refused_by_name_with_its_files_and_the_remedy(study, key, words, made):
    (odd,) = change(study, made, lambda run: run == run_of(study.records[-1]))
    with pytest.raises(UserError) as caught:
        tables_of(study)
    message = str(caught.value)
    assert words in message and str(odd) in message
    assert "Measure again" in message and f"`{key}: state`" in message
    others = [each for each in KEYS if each != key]
    with pytest.raises(UserError):
        tables_of(stating(study, *others))


@pytest.mark.parametrize(("key", "words", "made"), DIFFERENCES)
def test_a_mix_between_blocks_is_stated_and_every_block_is_paired(study, key, words, made):
    change(study, made, lambda run: run.repetition == 2)
    runs = tables_of(stating(study, key)).runs
    a, b = study.config.runtimes[:2]
    pairs = paired_blocks(runs, "parrot-1m", a, b)
    assert (pairs.blocks, pairs.mixed) == ([1, 2], [])
    stated = mixes_of(runs)
    assert stated
    for mix in stated:
        assert [each.rpartition(" (")[2] for each in sorted(mix.variants)] in (
            ["block 1)", "block 2)"],
            ["block 2)", "block 1)"],
        )


def test_a_study_without_a_mix_states_none(study):
    assert mixes_of(tables_of(study).runs) == []


@pytest.mark.parametrize(
    ("key", "made"),
    [(key, made) for key, _, made in DIFFERENCES if key != "mixed_runtimes"],
)
def test_a_pair_that_differs_within_its_block_is_left_out_with_the_reason(study, key, made):
    a, b = study.config.runtimes[:2]
    change(study, made, lambda run: (run.arm, run.kind, run.repetition) == (b, "task", 2))
    runs = tables_of(stating(study, key)).runs
    pairs = paired_blocks(runs, "parrot-1m", a, b)
    assert (pairs.blocks, pairs.split, pairs.mixed, pairs.invalid) == ([1], [], [2], [])
    comparisons = compare(runs, study.config.runtimes)
    lines = [line for line in left_out_blocks(comparisons) if "(task)" in line]
    assert len(lines) == 1
    assert "blocks 2 are left out (of two machines, builds or versions" in lines[0]


def test_a_control_of_another_build_is_not_compared_with_its_runtime(study):
    controls = change(
        study,
        lambda record: with_fact(record, libraries_sha256="b" * 64),
        lambda run: run.kind == "control" and run.repetition == 2,
    )
    odd = run_of(controls[0]).arm
    runs = tables_of(stating(study, "mixed_runtimes")).runs
    for runtime in study.config.runtimes:
        pairs = paired_blocks(runs, "parrot-1m", runtime, runtime, kind_b="control")
        assert (pairs.blocks, pairs.mixed) == (([], [2]) if runtime == odd else ([1], []))


def test_older_records_are_compared_as_far_as_they_tell(study):
    def older(record):
        return msgspec.structs.replace(record, fingerprint=None)

    change(study, older, lambda run: run.repetition == 1)
    with pytest.raises(UserError, match="the version of the instrument"):
        tables_of(study)
    assert len(tables_of(stating(study, "mixed_instruments")).runs) == len(study.records)
    change(
        study, lambda record: with_machine(record, kernel="9.9"), lambda run: run.repetition == 1
    )
    with pytest.raises(UserError, match=r"the machine \(kernel: "):
        tables_of(stating(study, "mixed_instruments"))


def test_memory_that_the_system_keeps_for_itself_makes_no_other_machine(study):
    def less(record):
        bytes_ = record.environment.before.machine.memory_bytes
        return with_machine(record, memory_bytes=bytes_ - 4096)

    change(study, less, lambda run: run.repetition == 2)
    assert len(tables_of(study).runs) == len(study.records)
