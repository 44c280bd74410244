"""All commands outside the workflow: one way of arguments, errors and exit status."""

import importlib
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from demonstration_campaigns import COMMITTED
from small_study import CHECKOUT

from joules.commands import command_line
from joules.core.errors import UserError

FOLDER = CHECKOUT / "workflow/scripts/joules/commands"
NAMES = sorted(
    path.stem for path in FOLDER.glob("*.py") if '\nif __name__ == "__main__":' in path.read_text()
)
ENVIRONMENT = {"PYTHONPATH": "workflow/scripts", "PATH": os.environ["PATH"], "PYTHONUTF8": "1"}
NOTHING_TO_READ = {"schemas"}


def module_of(name: str) -> ModuleType:
    return importlib.import_module(f"joules.commands.{name}")


def words(text: str | None) -> str:
    return " ".join((text or "").split())


def positionals(name: str, capsys: pytest.CaptureFixture[str]) -> tuple[list[str], list[str]]:
    """Return the arguments that a command needs, and those that it may be given, in order."""
    assert module_of(name).main(["--help"]) == 0
    usage = words(capsys.readouterr().out.partition("\n\n")[0])
    shown = usage.removeprefix(f"usage: python -m joules.commands.{name} ")
    shown = re.sub(r"\[-[^]]*\]", "", shown)
    return re.sub(r"\[[^]]*\]", "", shown).split(), re.findall(r"\[(\w+)\]", shown)


def refused(status: int, seen: tuple[str, str], name: str) -> None:
    """Assert bad use: status 2, nothing printed, the usage and one error on standard error."""
    out, err = seen
    assert (status, out) == (2, "")
    assert err.startswith(f"usage: python -m joules.commands.{name} ")
    assert re.findall("(?m)^with make: (make .+)$", err)
    assert len(re.findall("(?m)^error: .+", err)) == 1
    assert "Traceback" not in err


def test_make_calls_every_command_and_nothing_else_of_the_package():
    called = re.findall(
        r"-m\) joules\.(\S+)|tool\) joules\.(\S+)", (CHECKOUT / "Makefile").read_text()
    )
    in_jobs = re.findall(r"-m joules\.(\S+)", (FOLDER / "slurm.py").read_text())
    assert {f"commands.{name}" for name in NAMES} == {*in_jobs, *(a or b for a, b in called)}


@pytest.mark.parametrize("name", NAMES)
def test_a_command_says_what_it_does_when_asked_for_help(name):
    done = subprocess.run(
        [sys.executable, "-P", "-m", f"joules.commands.{name}", "--help"],
        cwd=CHECKOUT,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"usage: python -m joules.commands.{name} [-h]")
    described = words(inspect.getdoc(module_of(name)))
    assert described and described in words(done.stdout)
    assert "\nWith make: make " in done.stdout


@pytest.mark.parametrize("name", NAMES)
def test_a_command_refuses_an_option_that_it_does_not_know(name, capsys):
    needed, _ = positionals(name, capsys)
    status = module_of(name).main([*needed, "--no-such-option"])
    refused(status, capsys.readouterr(), name)


@pytest.mark.parametrize("name", NAMES)
def test_a_command_refuses_too_many_arguments_too_few_and_empty_ones(name, capsys):
    needed, optional = positionals(name, capsys)
    refused(module_of(name).main([*needed, *optional, "more"]), capsys.readouterr(), name)
    if needed:
        refused(module_of(name).main(needed[1:]), capsys.readouterr(), name)
        refused(module_of(name).main([""] * len(needed)), capsys.readouterr(), name)


@pytest.mark.parametrize("kind", ["absent", "folder", "noise", "empty"])
@pytest.mark.parametrize("name", [name for name in NAMES if name not in NOTHING_TO_READ])
def test_a_command_that_cannot_read_what_it_is_given_says_so_in_one_line(
    name, kind, capsys, tmp_path
):
    given = tmp_path / "given"
    if kind == "folder":
        given.mkdir()
    elif kind != "absent":
        given.write_bytes(b"\xff\x00\xfe{" if kind == "noise" else b"")
    needed, optional = positionals(name, capsys)
    others = [str(tmp_path / other) for other in needed[1:]]
    status = module_of(name).main([str(given), *others])
    out, err = capsys.readouterr()
    assert needed or optional
    assert status in (1, 2) and out == ""
    assert len(re.findall("(?m)^error: .+", err)) == 1
    assert "given" in err and "Traceback" not in err


@pytest.mark.parametrize(
    "arguments",
    [
        ["forecast"],
        ["doctor", "--help"],
        ["verify_campaign", str(COMMITTED)],
    ],
    ids=" ".join,
)
def test_a_command_is_quiet_where_nobody_reads_on(arguments):
    name, *others = arguments
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb") as nobody:
        done = subprocess.run(
            [sys.executable, "-P", "-m", f"joules.commands.{name}", *others],
            cwd=CHECKOUT,
            env=ENVIRONMENT,
            stdout=nobody,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert (done.returncode, done.stderr) == (0, "")


def test_what_was_asked_about_and_what_cannot_be_used_have_a_status_each(capsys, tmp_path):
    command = command_line.Command("x", "Does nothing.", "make x")

    def act_by(error: Exception):
        def act(options: object) -> int:
            raise error

        return act

    assert command_line.run(command, [], lambda options: command_line.NOT_SO) == 1
    assert command_line.run(command, [], act_by(UserError("It is wrong. Mend it."))) == 2
    assert capsys.readouterr() == ("", "error: It is wrong. Mend it.\n")
    assert command_line.run(command, [], lambda options: Path(tmp_path).read_text()) == 2
    assert capsys.readouterr().err.startswith(f"error: {tmp_path} cannot be used: ")
    with pytest.raises(OSError):
        command_line.run(command, [], act_by(OSError("no file is named")))
