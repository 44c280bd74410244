"""Ollama's binary: built from the pinned module, taken from the official release, or one's own.

Version 0.24.0 is the last that a Go toolchain builds alone: from 0.30 on llama.cpp is fetched by
CMake. What it was built from and how is written down beside the binary.
"""

import dataclasses
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from pathlib import Path

from joules.core.errors import UserError
from joules.core.files import read_json, sha256_of, write_json
from joules.core.inference import Facts, Options
from joules.core.places import REPOSITORY
from joules.machine import pip_settings
from joules.machine.download import Pin, download, forget
from joules.machine.processor import cpu_model

MODULE = "github.com/ollama/ollama"
# Per version: the module's hash, by the checksum database, and its llama.cpp commit.
KNOWN = {
    "0.24.0": {
        "module_hash": "h1:CBZ0ffE+cxMWRWau5yD5vXHkiZHAeuxLk+3j55u0XxQ=",
        "llama_cpp_commit": "ec98e2002",
    }
}
LEAST_GO = (1, 26)  # the `go` line of the module's go.mod
# The module lacks these of llama.cpp's vendored headers; llama-cpp-python's source has them.
HEADERS = ("nlohmann", "stb", "miniaudio")
VENDORED = ("vendor", "llama.cpp", "vendor")
AMX_OFF = ("-mno-amx-tile", "-mno-amx-int8", "-mno-amx-bf16")
COMPILERS = (("CC", "cc", "c"), ("CXX", "c++", "c++"))
VERSION_TIMEOUT_S = 60.0


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


def build_flags() -> str:
    """Return the C and C++ flags for this CPU's own instructions, on x86 without AMX.

    Without them a Go build uses SSE2 only and is several times slower. Ollama leaves llama.cpp's
    AMX code out, so its build does not link where the compiler turns AMX on. A compiler that does
    not know the flags that turn it off does not know AMX.
    """
    if platform.machine() not in ("x86_64", "AMD64"):
        return "-O3 -mcpu=native"
    native = "-O3 -march=native"
    known = all(_compiles(*compiler, *AMX_OFF) for compiler in COMPILERS)
    return " ".join([native, *AMX_OFF]) if known else native


def require_compiler() -> None:
    """Raise UserError when there is no working C and C++ compiler."""
    for variable, default, language in COMPILERS:
        if not _compiles(variable, default, language):
            name = os.environ.get(variable, default)
            raise UserError(
                f"Ollama is to be built, but the compiler {name!r} does not work. Expected a C "
                f"and a C++ compiler (`cc` and `c++`, or those that CC and CXX name). Install them "
                "(Debian: sudo apt-get install build-essential), or set "
                "runtime_options.ollama.from to `official` or `path`."
            )


def _run(command: list[str], log: Path, what: str, environment: Mapping[str, str]) -> str:
    """Run a command, its messages into `log`; return its output. Raises UserError on failure."""
    with open(log, "a", encoding="utf-8") as messages:
        messages.write(f"$ {' '.join(command)}\n")
        messages.flush()
        done = subprocess.run(
            command, env=dict(environment), stdout=subprocess.PIPE, stderr=messages, text=True
        )
    if done.returncode != 0:
        last = " | ".join(log.read_text(errors="replace").splitlines()[-3:])
        raise UserError(
            f"{what} failed with status {done.returncode}: {last}. Expected status 0. All of it is "
            f"in {log}. Mend the cause (often the network or the disk) and run again."
        )
    return done.stdout


def _tools(folder: Path, requirements: str, log: Path) -> Path:
    """Install pinned packages into a Python environment below `folder`; return its programs."""
    programs = folder / "tools/bin"
    if not (programs / "pip").exists():
        command = [sys.executable, "-m", "venv", "--clear", str(folder / "tools")]
        _run(command, log, "Making an environment for build tools", os.environ)
    command = [str(programs / "python"), "-m", "pip", "install", "--quiet", "--require-hashes"]
    command += ["-r", str(REPOSITORY / "requirements" / requirements)]
    _run(command, log, f"Installing requirements/{requirements}", _for_pip(programs))
    return programs


def _for_pip(programs: Path) -> dict[str, str]:
    try:
        return pip_settings.environment_for(str(programs / "python"))
    except pip_settings.Unreadable as error:
        raise UserError(
            f"pip cannot read its own settings: {error}. Expected files that it can read. Correct "
            "the one that it names (`pip config debug` lists them all) and run again."
        ) from error


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
    return str((_tools(folder, "go.txt", log) / "go").absolute())


def _source(folder: Path, log: Path) -> Path:
    """Return llama-cpp-python's pinned source: the one .venv was built from, else fetched."""
    requirements = REPOSITORY / "requirements/llama_cpp.txt"
    pinned = requirements.read_text()
    for kept in sorted((REPOSITORY / ".wheels").glob("llama_cpp_python-*.tar.gz")):
        if sha256_of(kept) in pinned:
            return kept
    # pip asks a source for its metadata, and for that runs the source's own build tools.
    programs = _tools(folder, "build.txt", log)
    command = [str(programs / "python"), "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--no-binary", ":all:", "--no-build-isolation", "--require-hashes"]
    command += ["-r", str(requirements), "-d", str(folder / "source")]
    path = {"PATH": f"{programs.absolute()}:{os.environ['PATH']}"}
    _run(command, log, "Fetching llama-cpp-python's source", _for_pip(programs) | path)
    return next((folder / "source").glob("*.tar.gz"))


def headers(folder: Path, log: Path) -> Path:
    """Unpack the headers that the module lacks into `folder`; return where they are."""
    target = folder / "headers"
    if all((target / name).is_dir() for name in HEADERS):
        return target
    source = _source(folder, log)
    unpacked = folder / "headers.part"
    shutil.rmtree(unpacked, ignore_errors=True)
    with tarfile.open(source) as archive:
        for member in archive:
            parts = Path(member.name).parts[1:]
            if member.isfile() and parts[:3] == VENDORED and parts[3] in HEADERS:
                member.name = str(Path(*parts[3:]))
                archive.extract(member, unpacked, filter="data")
    shutil.rmtree(target, ignore_errors=True)
    unpacked.rename(target)
    return target


def _build(options: Options, folder: Path, log: Path) -> Facts:
    """Build the pinned module for this CPU; return the facts of the build."""
    version = options["version"]
    if version not in KNOWN:
        raise UserError(
            f"runtime_options.ollama.version is {version!r} and is to be built; what can be built "
            f"is {', '.join(KNOWN)}. Take that version, or set `from` to `official` or `path`."
        )
    require_compiler()
    flags, known = build_flags(), KNOWN[version]
    go = go_binary(folder, log)
    environment = os.environ | {"GOTOOLCHAIN": "local", "GOFLAGS": "-mod=mod"}
    module = f"{MODULE}@v{version}"
    command = [go, "mod", "download", "-json", module]
    told = json.loads(_run(command, log, "Fetching Ollama's source", environment))
    if told["Sum"] != known["module_hash"]:
        raise UserError(
            f"The source of {module} has the hash {told['Sum']}; expected {known['module_hash']}. "
            "It was not built. Find out who changed it; `go clean -modcache` fetches it anew."
        )
    environment |= {
        "CGO_ENABLED": "1",
        "GOBIN": str((folder / "bin").absolute()),
        # Go keys its cache by flags. So the headers' folder is none (-I), and every clone shares
        # the cache; and the CPU is one, as a macro that nobody reads: -march=native hides it.
        "CPATH": str(headers(folder, log).absolute()),
        "CGO_CPPFLAGS": f"-DBUILT_FOR_CPU_{cpu_features()}",
        "CGO_CFLAGS": flags,
        "CGO_CXXFLAGS": flags,
    }
    linking = f"-s -w -X={MODULE}/version.Version={version}"  # else it calls itself 0.0.0
    command = [go, "install", "-trimpath", "-ldflags", linking, module]
    _run(command, log, "Building Ollama", environment)
    go_version = _run([go, "env", "GOVERSION"], log, "Asking Go for its version", environment)
    for used_up in ("tools", "source", "headers"):
        shutil.rmtree(folder / used_up, ignore_errors=True)
    return {
        "binary": str(folder / "bin/ollama"),
        "go_version": go_version.strip(),
        "build_flags": flags,
        **known,
        **this_cpu(),
    }


def _platform() -> str:
    system = platform.system().lower()
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    return "darwin" if system == "darwin" else f"{system}-{machine}"


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


def release_of(options: Options) -> Release | None:
    """Return the official release for this platform, where the options name one."""
    release = (options.get("official") or {}).get(_platform())
    return None if release is None else Release(**release)


def _official(options: Options, folder: Path, log: Path) -> Facts:
    """Fetch the official release for this platform, check its sha256, unpack it."""
    release = release_of(options)
    if release is None:
        known = ", ".join(options.get("official") or {}) or "none"
        raise UserError(
            f"runtime_options.ollama.official has no release for {_platform()}; it has {known}. "
            "Add url, sha256 and bytes, or set `from` to `path`."
        )
    archive = folder / Path(release.url).name
    if release.is_packed_with_zstd and not shutil.which("zstd"):
        raise UserError(
            f"{archive.name} is to be unpacked, which needs the program zstd; it is not there. "
            "Install it (Debian: sudo apt-get install zstd) and run again."
        )
    part = Path(f"{archive}.part")
    pin = Pin(release.sha256, release.bytes, "runtime_options.ollama.official")
    download("ollama", release.url, part, pin, lambda line: print(line, file=sys.stderr))
    found = sha256_of(part)
    if found != release.sha256:
        forget(part)
        raise UserError(
            f"{release.url} has the sha256 {found}; expected {release.sha256} as "
            "runtime_options.ollama.official says. It was not kept. Run again; if it stays so, "
            "find out who changed it."
        )
    os.replace(part, archive)
    forget(part)
    unpacked = folder / "official"
    shutil.rmtree(unpacked, ignore_errors=True)
    unpacked.mkdir()
    command = ["tar", "-xf", str(archive), "-C", str(unpacked)]
    _run(command, log, "Unpacking Ollama", os.environ)
    archive.unlink()
    binary = next((path for path in sorted(unpacked.rglob("ollama")) if path.is_file()), None)
    if binary is None:
        raise UserError(
            f"{release.url} holds no file `ollama`; expected the release of Ollama. Correct "
            "runtime_options.ollama.official."
        )
    return {
        "binary": str(binary),
        "archive_sha256": release.sha256,
        "llama_cpp_commit": KNOWN.get(options["version"], {}).get("llama_cpp_commit"),
    }


def _given(options: Options) -> Facts:
    """Return the facts of a binary that the user names."""
    if not options.get("binary"):
        raise UserError(
            "runtime_options.ollama.from is `path`, but `binary` is empty. Expected the path of "
            "Ollama's binary. Set it, or set `from` to `build`."
        )
    return {
        "binary": os.path.abspath(options["binary"]),
        "llama_cpp_commit": KNOWN.get(options["version"], {}).get("llama_cpp_commit"),
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
    """Make or check the binary that the options ask for, below `folder`; return its facts.

    `binary` is relative to the working directory where it lies below it. What was built or
    fetched before is used again when it is unchanged and, for a build, CPU and flags are the same.
    Raises UserError when it cannot be had or states another version.
    """
    ways = {"build": _build, "official": _official, "path": None}
    way, version = options.get("from"), options["version"]
    if way not in ways:
        raise UserError(
            f"runtime_options.ollama.from is {way!r}; expected {', '.join(ways)}. Correct it."
        )
    folder.mkdir(parents=True, exist_ok=True)
    kept, log = folder / "facts.json", folder / "provide.log"
    make = ways[str(way)]
    if make is None:
        facts = _given(options)
    else:
        facts = _kept(kept, way == "build") or make(options, folder, log)
    seen = version_of(facts["binary"], folder)
    if seen != version:
        raise UserError(
            f"{facts['binary']} states the version {seen!r}; expected {version}, as "
            "runtime_options.ollama.version says. Correct it, or provide that version."
        )
    facts |= {"from": way, "version": version, "binary_sha256": sha256_of(facts["binary"])}
    if make is not None:
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
    if not Path(facts["binary"]).exists() or sha256_of(facts["binary"]) != facts["binary_sha256"]:
        return None
    if built and not (fits_this_cpu(facts) and facts["build_flags"] == build_flags()):
        return None
    return facts
