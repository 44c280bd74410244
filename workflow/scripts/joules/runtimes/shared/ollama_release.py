"""Ollama's official releases: archives that hold the program and its llama.cpp for many CPUs.

Which there are stands in the options, by platform, with the sum that each must have. None is known
to this study of the version that it takes by default, and none is guessed.
"""

import dataclasses
import os
import platform
import shutil
import sys
from pathlib import Path

from joules.core.errors import UserError
from joules.core.files import sha256_of
from joules.core.inference import Facts, Options
from joules.machine.download import Pin, download, forget
from joules.runtimes.shared import native_build

OPTION = "runtime_options.ollama.official"


@dataclasses.dataclass(frozen=True)
class Release:
    """An archive of the official release: its address, the sha256 and size that it must have."""

    url: str
    sha256: str
    bytes: int

    @property
    def is_packed_with_zstd(self) -> bool:
        """Whether the program zstd is needed to unpack it."""
        return self.url.endswith(".zst")


def this_platform() -> str:
    """Return the name by which the options know releases for this machine."""
    system = platform.system().lower()
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    return "darwin" if system == "darwin" else f"{system}-{machine}"


def release_of(options: Options) -> Release | None:
    """Return the official release for this platform, where the options name one."""
    release = (options.get("official") or {}).get(this_platform())
    return None if release is None else Release(**release)


def provide(options: Options, folder: Path, log: Path) -> Facts:
    """Fetch the official release for this platform, check its sha256, unpack it."""
    release = release_of(options)
    if release is None:
        known = ", ".join(options.get("official") or {}) or "none"
        raise UserError(
            f"{OPTION} has no release of {options['version']} for {this_platform()}; it has "
            f"{known}. Its sum is not known here, so it is not fetched. Add url, sha256 and bytes "
            "as its makers state them, or set `from` to `build` or `path`."
        )
    archive = folder / Path(release.url).name
    if release.is_packed_with_zstd and not shutil.which("zstd"):
        raise UserError(
            f"{archive.name} is to be unpacked, which needs the program zstd; it is not there. "
            "Install it (Debian: sudo apt-get install zstd) and run again."
        )
    part = Path(f"{archive}.part")
    pin = Pin(release.sha256, release.bytes, OPTION)
    download("ollama", release.url, part, pin, lambda line: print(line, file=sys.stderr))
    found = sha256_of(part)
    if found != release.sha256:
        forget(part)
        raise UserError(
            f"{release.url} has the sha256 {found}; expected {release.sha256} as {OPTION} says. It "
            "was not kept. Run again; if it stays so, find out who changed it."
        )
    os.replace(part, archive)
    forget(part)
    unpacked = folder / "official"
    shutil.rmtree(unpacked, ignore_errors=True)
    unpacked.mkdir()
    command = ["tar", "-xf", str(archive), "-C", str(unpacked)]
    native_build.run(command, log, "Unpacking Ollama", os.environ)
    archive.unlink()
    binary = next((path for path in sorted(unpacked.rglob("ollama")) if path.is_file()), None)
    if binary is None:
        raise UserError(
            f"{release.url} holds no file `ollama`; expected the release of Ollama. Correct "
            f"{OPTION}."
        )
    return {"binary": str(binary), "archive_sha256": release.sha256}
