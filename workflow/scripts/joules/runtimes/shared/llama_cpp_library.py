"""The one llama.cpp of this study: the libraries and the server that several runtimes share.

Ollama, llama-server and llama-cpp-python are three ways to llama.cpp. By default they are given one
and the same build of it, that of Ollama's pin with Ollama's patches, so that compile switches and
versions are equal by construction and what differs between them is the way alone. It is compiled
once for this CPU and kept in `.wheels`, under a key of all that decides its bytes; each runtime
gets it below its own folder, as hard links where the file system allows.
`requirements/install.sh` puts it into llama-cpp-python as well, which has none of its own there;
the tokenizer reads model files through that.

Started as `python -m joules.runtimes.shared.llama_cpp_library`, `key` prints the key and
`into FOLDER` puts the libraries there.
"""

import contextlib
import fcntl
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from joules.core.errors import UserError
from joules.core.files import read_json, sha256_of, write_json
from joules.core.inference import Facts
from joules.core.places import REPOSITORY
from joules.machine import llama_cpp_package
from joules.runtimes.shared import native_build, ollama_llama_cpp_build, ollama_source
from joules.runtimes.shared.worker import hash_of

SERVER = "llama-server"
FACTS = llama_cpp_package.FACTS
HEADERS = "include"
KEPT = ".wheels"
LIBRARIES = ("lib*.so*", "lib*.dylib")
COMPUTING = ("libllama.*", "libggml*")  # of the libraries, those that a model is computed with
VERSION = ollama_source.KNOWN[ollama_source.PINNED].llama_cpp
USAGE = "Expected `key`, or `into FOLDER`."
DECIDING = ("source-ollama.txt", "build-ollama.txt")  # in requirements/: source and build tools


def key() -> str:
    """Return a hash of what decides the build's bytes: source, patches, flags, CPU and compiler."""
    compilers = [
        _version(os.environ.get(name, default)) for name, default, _ in native_build.COMPILERS
    ]
    texts = [(REPOSITORY / "requirements" / name).read_text(encoding="utf-8") for name in DECIDING]
    parts = [
        ollama_source.KNOWN[ollama_source.PINNED].module_hash,
        ollama_llama_cpp_build.flags(),
        *ollama_llama_cpp_build.OF_THE_BUILD,
        ollama_llama_cpp_build.FAST.read_text(encoding="utf-8"),
        str(native_build.this_cpu()),
        platform.system(),
        *compilers,
        *texts,
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _version(command: str) -> str:
    """Return what a compiler calls itself; "" where it does not run."""
    try:
        told = subprocess.run([*shlex.split(command), "--version"], capture_output=True, text=True)
    except OSError:
        return ""
    return told.stdout


def libraries_in(folder: Path) -> list[Path]:
    """Return the shared libraries that lie in a folder, links among them."""
    return [path for pattern in LIBRARIES for path in folder.glob(pattern)]


def libraries_sha256(folder: Path) -> str:
    """Return one SHA-256 of all shared libraries in a folder."""
    return hash_of(libraries_in(folder))


def engine_sha256(folder: Path) -> str | None:
    """Return one SHA-256 of the libraries that compute, libllama and libggml*; None without them.

    Two arms of which this is equal run the same machine code for the model itself.
    """
    found = [path for path in libraries_in(folder) if any(map(path.match, COMPUTING))]
    return hash_of(found) if found else None


def hashes(folder: Path) -> Facts:
    """Return the sha256 of a build's libraries, of those that compute, and of its server."""
    return {
        "libraries_sha256": libraries_sha256(folder),
        "engine_sha256": engine_sha256(folder),
        "server_sha256": sha256_of(folder / SERVER),
    }


def facts_in(folder: Path) -> Facts:
    """Return the facts of the build that lies in a folder. Raises UserError when it was changed."""
    facts = read_json(folder / FACTS)
    now = hashes(folder)
    if {name: facts.get(name) for name in now} != now:
        raise UserError(
            f"The llama.cpp in {folder} has the sums {now}; expected those of its {FACTS}. It was "
            "changed since it was built. Delete that folder and run again: it is built anew."
        )
    return facts


def provide() -> Path:
    """Return the folder of the build for this CPU and compiler, made now where there is none.

    It is looked for in the llama-cpp-python of this interpreter, then in `.wheels`. Raises
    UserError when it cannot be built, or was changed since.
    """
    wanted = key()
    packaged = llama_cpp_package.packaged_library()
    if packaged is not None and _is(packaged, wanted):
        return packaged
    kept = REPOSITORY / KEPT / f"llama.cpp-{VERSION}-{wanted}"
    with _alone(kept.parent):
        if not _is(kept, wanted):
            _build(kept, wanted)
    return kept


def is_here() -> bool:
    """Return whether the build for this CPU and compiler was made before."""
    wanted = key()
    kept = REPOSITORY / KEPT / f"llama.cpp-{VERSION}-{wanted}"
    packaged = llama_cpp_package.packaged_library()
    return any(_is(folder, wanted) for folder in (packaged, kept) if folder is not None)


def _is(folder: Path, wanted: str) -> bool:
    """Return whether the build of a key lies in a folder, whole."""
    if not (folder / FACTS).exists() or read_json(folder / FACTS).get("llama_cpp_key") != wanted:
        return False
    try:
        facts_in(folder)
    except (OSError, UserError):
        return False
    return True


def _build(kept: Path, wanted: str) -> None:
    native_build.require("llama.cpp", "take another runtime or library", "git")
    part = kept.with_name(f"{kept.name}.part")
    part.mkdir(parents=True, exist_ok=True)
    log = kept.parent / "llama.cpp.log"
    log.unlink(missing_ok=True)
    print(
        f"Compiling llama.cpp {VERSION} for this CPU. This takes minutes; its output goes to "
        f"{os.path.relpath(log)}.",
        file=sys.stderr,
        flush=True,
    )
    go = ollama_source.go_binary(part, log)
    module = ollama_source.fetch(go, ollama_source.PINNED, part, log)
    facts = ollama_llama_cpp_build.build(module, VERSION, part, log)
    shutil.rmtree(kept, ignore_errors=True)
    made = part / "lib/ollama"
    shutil.rmtree(made / HEADERS, ignore_errors=True)
    (part / HEADERS).rename(made / HEADERS)
    own = {"llama_cpp_key": wanted, **native_build.this_cpu()}
    write_json(made / FACTS, facts | hashes(made) | own)
    made.rename(kept)
    shutil.rmtree(part)


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Wait until no other process builds here. Another lock than install.sh's, which calls this."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "llama.cpp.lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def take(folder: Path) -> str:
    """Put the build, made now where there is none, into `folder`; return where that is.

    Relative to the working directory where it lies below it, so that a checkout can be moved.
    """
    link(provide(), folder)
    here = os.path.relpath(folder)
    return os.path.abspath(here) if here.startswith("..") else here


def link(build: Path, folder: Path, headers: bool = False) -> None:
    """Put a build's files into `folder`, in place of what is there; headers only where asked for.

    They are hard links, and copies where the file system has none between the two places.
    """
    part = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    ignored = (lambda _, names: []) if headers else _without_headers
    shutil.copytree(build, part, symlinks=True, ignore=ignored, copy_function=_link_or_copy)
    shutil.rmtree(folder, ignore_errors=True)
    part.rename(folder)


def _without_headers(folder: str, names: Iterable[str]) -> list[str]:
    return [name for name in names if name == HEADERS]


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def main(arguments: list[str]) -> None:
    """Do what the command line says; a UserError becomes one line and exit status 64."""
    try:
        match arguments:
            case ["key"]:
                print(key())
            case ["into", folder]:
                link(provide(), Path(folder), headers=True)
            case _:
                raise UserError(f"The arguments are {arguments}. {USAGE}")
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(64) from None


if __name__ == "__main__":
    main(sys.argv[1:])
