"""Ollama's source: a Go module of known hash, and the llama.cpp that each version pins.

Go fetches it and checks it against its own database of sums; the hash is checked here once more.
"""

import dataclasses
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

from joules.core.errors import UserError
from joules.runtimes.shared import native_build

MODULE = "github.com/ollama/ollama"


@dataclasses.dataclass(frozen=True)
class Source:
    """What a version is built from: its module's hash, by Go's checksum database, and a tag."""

    module_hash: str
    llama_cpp: str


PINNED = "0.34.0"  # the version whose llama.cpp is built here
KNOWN = {
    PINNED: Source("h1:6BrPUjSiGVuYz+Um6YawOrZanVXeurjjfX2rRVpRR3E=", "b10760"),
}
LEAST_GO = (1, 26)  # the `go` line of the module's go.mod
# Of the user's variables these would make another build.
HIDDEN = ("CGO_*", "GOFLAGS", "GOEXPERIMENT")


def go_binary(folder: Path, log: Path) -> str:
    """Return a Go that is new enough: the system's, else the pinned one, installed in `folder`."""
    system = shutil.which("go")
    if system is not None:
        environment = os.environ | {"GOTOOLCHAIN": "local"}
        told = subprocess.run(
            [system, "env", "GOVERSION"], capture_output=True, text=True, env=environment
        ).stdout
        found = re.match(r"go(\d+)\.(\d+)", told)
        if found and tuple(map(int, found.groups())) >= LEAST_GO:
            return system
    return str(native_build.tools(folder, "go.txt", log) / "go")


def variables(folder: Path) -> dict[str, str]:
    """Return the variables that Go runs with; what it installs goes into `folder`/bin."""
    return native_build.environment(*HIDDEN) | {
        "GOTOOLCHAIN": "local",
        "GOFLAGS": "-mod=mod",
        "CGO_ENABLED": "1",
        "GOBIN": str((folder / "bin").absolute()),
    }


def fetch(go: str, version: str, folder: Path, log: Path) -> Path:
    """Return the folder of the source of a known version, which Go keeps in its own cache.

    Raises UserError when it cannot be had, or has another hash than the known one.
    """
    module, known = f"{MODULE}@v{version}", KNOWN[version]
    command = [go, "mod", "download", "-json", module]
    what = "Fetching Ollama's source"
    told = json.loads(native_build.ask(command, log, what, variables(folder)))
    if told["Sum"] != known.module_hash:
        raise UserError(
            f"The source of {module} has the hash {told['Sum']}; expected {known.module_hash}. "
            "It was not built. Find out who changed it; `go clean -modcache` fetches it anew."
        )
    return Path(told["Dir"])
