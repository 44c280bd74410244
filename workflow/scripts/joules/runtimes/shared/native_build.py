"""What a build for this very CPU needs: the CPU's name, its flags, compilers, pinned build tools.

Standard library and `joules.machine` only; it knows no runtime.
"""

import fnmatch
import hashlib
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from joules.core.errors import UserError
from joules.core.files import sha256_of
from joules.core.inference import Facts
from joules.core.places import REPOSITORY
from joules.machine import pip_settings
from joules.machine.processor import cpu_model

AMX_OFF = ("-mno-amx-tile", "-mno-amx-int8", "-mno-amx-bf16")
COMPILERS = (("CC", "cc", "c"), ("CXX", "c++", "c++"))


def cpu_features() -> str:
    """Return a short hash of the instructions that this CPU offers; the model name is not enough.

    A hypervisor may hide some of them.
    """
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else [platform.machine()]
    named = {line for line in lines if line.startswith(("flags", "Features"))}
    return hashlib.sha256("\n".join(sorted(named or lines)).encode()).hexdigest()[:16]


def this_cpu() -> dict[str, str]:
    """Return what a build for this CPU is keyed by."""
    return {"cpu_model": cpu_model(), "cpu_features": cpu_features()}


def built_for(facts: Facts) -> dict[str, str]:
    """Return the CPU that a binary was built for; empty for no particular one."""
    return {name: facts[name] for name in this_cpu() if name in facts}


def fits_this_cpu(facts: Facts) -> bool:
    """Return whether a binary was built for this CPU, or for no particular one."""
    return built_for(facts) in ({}, this_cpu())


def _compiles(variable: str, default: str, language: str, *flags: str) -> bool:
    command = os.environ.get(variable, default).split()
    try:
        done = subprocess.run(
            [*command, *flags, "-x", language, "-c", "-o", os.devnull, "-"],
            input="int main(void) { return 0; }\n",
            text=True,
            capture_output=True,
        )
    except OSError:
        return False
    return done.returncode == 0


def flags_without_amx() -> str:
    """Return the C and C++ flags that keep a compiler from AMX instructions; on x86 alone.

    llama.cpp crashes in them (ggml-org/llama.cpp issue 20824). A compiler that does not know the
    flags does not know AMX.
    """
    if platform.machine() not in ("x86_64", "AMD64"):
        return ""
    known = all(_compiles(*compiler, *AMX_OFF) for compiler in COMPILERS)
    return " ".join(AMX_OFF) if known else ""


def require(what: str, otherwise: str, *programs: str) -> None:
    """Raise UserError when a C or C++ compiler does not work, or one of `programs` is not there.

    `what` is to be built, and `otherwise` says what can be done instead.
    """
    for variable, default, language in COMPILERS:
        if not _compiles(variable, default, language):
            name = os.environ.get(variable, default)
            raise UserError(
                f"{what} is to be built, but the compiler {name!r} does not work. Expected a C "
                f"and a C++ compiler (`cc` and `c++`, or those that CC and CXX name). Install them "
                f"(Debian: sudo apt-get install build-essential), or {otherwise}."
            )
    for program in programs:
        if not shutil.which(program):
            raise UserError(
                f"{what} is to be built, which needs the program {program}; it is not there. "
                f"Install it (Debian: sudo apt-get install {program}), or {otherwise}."
            )


def environment(*hidden: str) -> dict[str, str]:
    """Return the user's environment, less the variables that match a pattern of `hidden`."""
    return {
        name: value
        for name, value in os.environ.items()
        if not any(fnmatch.fnmatchcase(name, pattern) for pattern in hidden)
    }


def run(command: list[str], log: Path, what: str, variables: Mapping[str, str]) -> None:
    """Run a command, all that it says into `log`. Raises UserError on failure."""
    _run(command, log, what, variables, None)


def ask(command: list[str], log: Path, what: str, variables: Mapping[str, str]) -> str:
    """Run a command, its messages into `log`; return its output. Raises UserError on failure."""
    return _run(command, log, what, variables, subprocess.PIPE)


def _run(
    command: list[str], log: Path, what: str, variables: Mapping[str, str], output: int | None
) -> str:
    with open(log, "a", encoding="utf-8") as messages:
        messages.write(f"$ {' '.join(command)}\n")
        messages.flush()
        done = subprocess.run(
            command, env=dict(variables), stdout=output or messages, stderr=messages, text=True
        )
    if done.returncode != 0:
        last = " | ".join(log.read_text(errors="replace").splitlines()[-3:])
        raise UserError(
            f"{what} failed with status {done.returncode}: {last}. Expected status 0. All of it is "
            f"in {log}. Mend the cause (often the network or the disk) and run again."
        )
    return done.stdout or ""


def tools(folder: Path, requirements: str, log: Path) -> Path:
    """Install pinned packages into a Python environment below `folder`; return its programs."""
    programs = folder / "tools/bin"
    if not (programs / "pip").exists():
        command = [sys.executable, "-m", "venv", "--clear", str(folder / "tools")]
        run(command, log, "Making an environment for build tools", os.environ)
    command = [str(programs / "python"), "-m", "pip", "install", "--quiet", "--require-hashes"]
    command += ["-r", str(REPOSITORY / "requirements" / requirements)]
    run(command, log, f"Installing requirements/{requirements}", _for_pip(programs))
    return programs.absolute()


def source(programs: Path, requirements: str, folder: Path, log: Path) -> Path:
    """Return the one pinned source archive of `requirements`: one that is there, else fetched.

    It is looked for in .wheels and in `folder`. pip checks its sha256. pip also asks a source for
    its metadata, and for that runs the tools that the source names: they must be in `programs`.
    """
    pins = REPOSITORY / "requirements" / requirements
    pinned = pins.read_text(encoding="utf-8")
    for place in (REPOSITORY / ".wheels", folder):
        for kept in sorted(place.glob("*.tar.gz")):
            if sha256_of(kept) in pinned:
                return kept
    command = [str(programs / "python"), "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--no-binary", ":all:", "--no-build-isolation", "--require-hashes"]
    command += ["-r", str(pins), "-d", str(folder)]
    path = {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"}
    what = f"Fetching the source of requirements/{requirements}"
    run(command, log, what, _for_pip(programs) | path)
    return next(folder.glob("*.tar.gz"))


def _for_pip(programs: Path) -> dict[str, str]:
    try:
        return pip_settings.environment_for(str(programs / "python"))
    except pip_settings.Unreadable as error:
        raise UserError(
            f"pip cannot read its own settings: {error}. Expected files that it can read. Correct "
            "the one that it names (`pip config debug` lists them all) and run again."
        ) from error
