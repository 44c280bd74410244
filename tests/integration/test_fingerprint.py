"""What a run's fingerprint holds, and that it changes with every module of the measuring path."""

import os
import shutil
import subprocess
import sys

import pytest
from scripted import Scripted, assigned, run

from joules.core.places import PACKAGE, SCRIPTS
from joules.machine import machine_state
from joules.measure import campaign, fingerprint

PRINT = """
import sys
from joules.measure import fingerprint
from joules.runtimes import load
adapter = load(sys.argv[1])
print(fingerprint.instrument_sha256())
print(fingerprint._sha256_of(fingerprint.runtime_modules(adapter.__new__(adapter))))
"""
RUNTIME = "llama_cpp"
IMPORTED = """
import sys
from pathlib import Path
from joules.core.places import PACKAGE
from joules.measure import campaign, fingerprint
own = [m.__file__ for name, m in sys.modules.items() if name.split(".")[0] == "joules"]
hashed = set(fingerprint.instrument_modules())
print(*sorted(str(Path(f).relative_to(PACKAGE)) for f in own if f and Path(f) not in hashed))
"""
# Modules on the measuring path whose doing stands in the record itself, or alters no number in it.
STATED = {
    "what was asked for": "analysis arms catalogue keys meters plan run_parameters study",
    "types of stored files": "fingerprint grade_file imported machine_facts prompts_file "
    "registering registration stored unfinished_file values warm_up_files",
    "places and words": "__init__ errors files paths places wording",
}
BESIDE = {
    *("__init__.py", "inputs/__init__.py"),
    # prompts and the model's file have their hashes in the record
    *("inputs/chat_template.py", "inputs/gguf_facts.py", "inputs/humaneval.py"),
    "inputs/prompts.py",
    # these measure nothing
    *("machine/lock.py", "machine/virtual_environments.py"),
    "runtimes/__init__.py",  # in the hash of the runtime's own modules
}


def hashes(scripts):
    """Return the instrument's and an adapter's hash of a copy of the package."""
    done = subprocess.run(
        [sys.executable, "-c", PRINT, RUNTIME],
        env=os.environ | {"PYTHONPATH": str(scripts), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    instrument, adapter = done.stdout.split()
    return instrument, adapter


@pytest.fixture
def copied(tmp_path):
    """A copy of the package."""
    shutil.copytree(PACKAGE, tmp_path / "joules", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


@pytest.mark.parametrize(
    ("module", "instrument", "adapter"),
    [
        ("measure/campaign", True, False),
        ("measure/protocol", True, False),
        ("measure/sitting", True, False),
        ("meters/reader", True, False),
        ("machine/machine_state", True, False),
        ("machine/processes", True, False),
        ("core/units", True, False),
        ("core/energy", True, False),
        ("core/known", True, False),
        ("core/inference", True, True),
        ("inputs/tokenizer", True, False),
        (f"runtimes/{RUNTIME}", False, True),
        ("runtimes/shared/worker", False, True),
        ("runtimes/shared/in_process", False, True),
        ("runtimes/ollama", False, False),
        ("machine/download", False, False),
        ("draw/style", False, False),
        ("analyse/pairs", False, False),
        ("write/claims", False, False),
    ],
)
def test_an_edit_changes_the_hash_of_what_it_is_part_of(copied, module, instrument, adapter):
    before = hashes(copied)
    with open(copied / f"joules/{module}.py", "a", encoding="utf-8") as file:
        file.write("\n# edited\n")
    after = hashes(copied)
    assert [a != b for a, b in zip(before, after, strict=True)] == [instrument, adapter]


def test_a_new_module_of_a_measuring_room_is_part_of_the_instrument(copied):
    before = hashes(copied)
    (copied / "joules/meters/of_another_kind.py").write_text("")
    assert hashes(copied)[0] != before[0]


def test_every_module_that_measuring_imports_is_hashed_or_stands_in_the_record_otherwise():
    done = subprocess.run(
        [sys.executable, "-P", "-c", IMPORTED],
        env=os.environ | {"PYTHONPATH": str(SCRIPTS)},
        capture_output=True,
        text=True,
        check=True,
    )
    stated = {f"core/{name}.py" for names in STATED.values() for name in names.split()}
    assert set(done.stdout.split()) == stated | BESIDE


def test_a_copy_elsewhere_has_the_same_hashes(copied):
    assert hashes(copied) == hashes(SCRIPTS)


def test_a_record_holds_its_fingerprint(tmp_path):
    parts, measured = run(Scripted(), tmp=tmp_path)
    machine = machine_state.machine_facts(campaign.PACKAGES)
    record = campaign.record_of(assigned(tmp_path), 1, Scripted(), measured.facts(), machine, parts)
    held = record.fingerprint
    assert held is not None
    assert held.instrument_sha256 == fingerprint.instrument_sha256()
    assert held.instrument_sha256 == record.instrument.modules_sha256
    assert (held.machine.cpu, held.machine.kernel) == (machine.cpu, machine.kernel)
    assert held.runtime.version == str(parts.runtime_facts["version"])
    assert record.session == "boot/1"
