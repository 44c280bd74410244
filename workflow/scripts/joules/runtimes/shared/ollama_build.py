"""Ollama's programs: built from pinned sources, taken from an official release, or one's own.

They are two: `ollama` itself, in Go, and llama.cpp's server, which it starts and which computes.
What they were built from and how is written down beside them. The llama.cpp of a build is the one
that other runtimes share (`joules.runtimes.shared.llama_cpp_library`).
"""

import os
import re
import shutil
import subprocess
from pathlib import Path

from joules.core.errors import UserError
from joules.core.files import read_json, sha256_of, write_json
from joules.core.inference import Facts, Options
from joules.runtimes.shared import (
    llama_cpp_library,
    llama_server_program,
    native_build,
    ollama_llama_cpp_build,
    ollama_release,
    ollama_source,
)

LEAST = (0, 30)  # older ones compute by themselves, and are driven and built in other ways
VERSION_TIMEOUT_S = 60.0
OTHERWISE = "set runtime_options.ollama.from to `path`"
ENGINES = ("../lib/ollama", "lib/ollama", ".")  # from the program, where it looks for its server


def check_version(options: Options) -> None:
    """Raise UserError for a version that computes by itself."""
    version = options["version"]
    found = re.match(r"(\d+)\.(\d+)", version)
    if found is None or tuple(map(int, found.groups())) < LEAST:
        raise UserError(
            f"runtime_options.ollama.version is {version!r}; expected {'.'.join(map(str, LEAST))} "
            "or later: older ones have an engine of their own, which is not driven here. Take a "
            "later one."
        )


def require_tools() -> None:
    """Raise UserError when a compiler is missing, or git, with which Ollama's patches go in."""
    native_build.require("Ollama", OTHERWISE, "git")


def _build(options: Options, folder: Path, log: Path) -> Facts:
    """Build the pinned module for this CPU, beside the shared llama.cpp; return the facts."""
    version = options["version"]
    if version not in ollama_source.KNOWN:
        raise UserError(
            f"runtime_options.ollama.version is {version!r} and is to be built; what can be built "
            f"is {', '.join(ollama_source.KNOWN)}. Take that version, or {OTHERWISE}."
        )
    require_tools()
    go = ollama_source.go_binary(folder, log)
    variables = ollama_source.variables(folder)
    ollama_source.fetch(go, version, folder, log)
    library = llama_cpp_library.provide()
    llama_cpp_library.link(library, folder / "lib/ollama")
    # Else it calls itself 0.0.0.
    linking = f"-s -w -X={ollama_source.MODULE}/version.Version={version}"
    module = f"{ollama_source.MODULE}@v{version}"
    command = [go, "install", "-trimpath", "-ldflags", linking, module]
    native_build.run(command, log, "Building Ollama", variables)
    command = [go, "env", "GOVERSION"]
    go_version = native_build.ask(command, log, "Asking Go for its version", variables)
    shutil.rmtree(folder / "tools", ignore_errors=True)
    return {
        "binary": str(folder / "bin/ollama"),
        "go_version": go_version.strip(),
        "module_hash": ollama_source.KNOWN[version].module_hash,
        **llama_cpp_library.facts_in(library),
        **native_build.this_cpu(),
    }


def _given(options: Options, folder: Path, log: Path) -> Facts:
    """Return the facts of a binary that the user names."""
    if not options.get("binary"):
        raise UserError(
            "runtime_options.ollama.from is `path`, but `binary` is empty. Expected the path of "
            "Ollama's binary. Set it, or set `from` to `build`."
        )
    return {"binary": os.path.abspath(options["binary"])}


def engine_of(binary: str) -> Path:
    """Return the llama.cpp server that a binary starts. Raises UserError when there is none."""
    program = Path(binary).resolve()
    places = [(program.parent / place / "llama-server").resolve() for place in ENGINES]
    found = next(filter(Path.is_file, places), None)
    if found is None:
        raise UserError(
            f"{binary} has no llama.cpp server: neither {' nor '.join(map(str, places))} is there. "
            "Expected Ollama as its makers install it. Install it whole, or set "
            "runtime_options.ollama.from to `build`."
        )
    return found


def hashes(binary: str) -> Facts:
    """Return the sha256 of a binary, of the server that it starts, and of the server's libraries.

    `engine_sha256` is that of the libraries that compute alone.

    Raises UserError when one is missing.
    """
    engine = engine_of(binary)
    return {
        "binary_sha256": sha256_of(binary),
        "server_sha256": sha256_of(engine),
        "libraries_sha256": llama_cpp_library.libraries_sha256(engine.parent),
        "engine_sha256": llama_cpp_library.engine_sha256(engine.parent),
    }


def version_of(binary: str, home: Path) -> str:
    """Return the version that a binary states. Raises UserError when it cannot be run."""
    environment = {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(home.absolute()),
        "OLLAMA_HOST": "127.0.0.1:1",  # nobody answers there, so it speaks for itself
    }
    try:
        done = subprocess.run(
            [binary, "--version"],
            capture_output=True,
            text=True,
            timeout=VERSION_TIMEOUT_S,
            env=environment,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UserError(
            f"{binary} cannot be run ({error}). Expected Ollama's binary for this machine. Correct "
            "runtime_options.ollama."
        ) from error
    found = re.search(r"version is (\S+)", done.stdout + done.stderr)
    return found.group(1) if found else "unknown"


def provide(options: Options, folder: Path) -> Facts:
    """Make or check the programs that the options ask for, below `folder`; return their facts.

    `binary` is relative to the working directory where it lies below it. What was built or
    fetched before is used again when it is unchanged and, for a build, CPU and flags are the same.
    Raises UserError when it cannot be had or states another version.
    """
    ways = {"build": _build, "official": ollama_release.provide, "path": _given}
    way, version = str(options.get("from")), options["version"]
    if way not in ways:
        raise UserError(
            f"runtime_options.ollama.from is {way!r}; expected {', '.join(ways)}. Correct it."
        )
    check_version(options)
    folder.mkdir(parents=True, exist_ok=True)
    kept, log = folder / "facts.json", folder / "provide.log"
    made_here = way != "path"
    facts = _kept(kept, way == "build") if made_here else None
    facts = facts or ways[way](options, folder, log)
    seen = version_of(facts["binary"], folder)
    if seen != version:
        raise UserError(
            f"{facts['binary']} states the version {seen!r}; expected {version}, as "
            "runtime_options.ollama.version says. Correct it, or provide that version."
        )
    remedy = "Install Ollama whole, or set runtime_options.ollama.from to `build`."
    engine = llama_server_program.stated_version(engine_of(facts["binary"]), remedy)
    commit = llama_server_program.commit_in(engine)
    known = ollama_source.KNOWN.get(version)
    facts = {
        "llama_cpp_commit": commit if known is None else known.llama_cpp,
        "llama_cpp_build": llama_server_program.build_in(engine),
        "llama_cpp_date": None,
        "llama_cpp_version": engine,
        **facts,
        **hashes(facts["binary"]),
        "from": way,
        "version": version,
    }
    if made_here:
        write_json(kept, facts | {"binary": os.path.relpath(facts["binary"], folder)})
        here = os.path.relpath(facts["binary"])
        facts["binary"] = os.path.abspath(here) if here.startswith("..") else here
    return facts


def _kept(file: Path, built: bool) -> Facts | None:
    """Return the facts of what was made before, if it is whole and still the right one."""
    if not file.exists():
        return None
    facts = read_json(file)
    facts["binary"] = str(file.parent / facts["binary"])
    try:
        now = hashes(facts["binary"])
    except (OSError, UserError):  # a program is gone
        return None
    if {name: facts.get(name) for name in now} != now:
        return None
    if built and not (
        native_build.fits_this_cpu(facts)
        and facts["build_flags"] == ollama_llama_cpp_build.flags()
        and facts.get("llama_cpp_key") == llama_cpp_library.key()
    ):
        return None
    return facts
