"""How a worker of the sandbox is started: its command, and the code that it gets.

The code is compiled here, once, and handed over in sealed memory: a worker has neither our files
to see nor anything to compile.
"""

import fcntl
import functools
import marshal
import os
import sys
from importlib.machinery import SourceFileLoader
from importlib.util import find_spec
from pathlib import Path
from types import CodeType

_PACKAGE = "joules.grade.sandbox"
# Each after those that it imports; the last one is the worker itself.
_WORKER_FILES = (
    "plain_data.py",
    "confinement.py",
    "seccomp.py",
    "semaphores.py",
    "judge.py",
    "solver.py",
    "worker.py",
)
_HERE = Path(__file__).resolve().parent
_SHOWN = "/grader"  # where the code seems to lie: programs learn no path of this machine from it
# What a worker's Python runs. Several workers read one descriptor, so none moves its position.
_FIRST_STEPS = """
import marshal, os, sys, types
register, os.register_at_fork = os.register_at_fork, lambda **hooks: None
import random  # would seed itself anew in every child, which are to have the same seed
os.register_at_fork = register
held = int(sys.argv[1])
modules = marshal.loads(os.pread(held, os.fstat(held).st_size, 0))
os.close(held)
for name in ("joules", "joules.grade", "joules.grade.sandbox"):
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = []
for name, code in modules:
    sys.modules[name] = types.ModuleType(name)
    exec(code, sys.modules[name].__dict__)
sys.modules[name].main()
"""


@functools.cache
def code_of(folder: Path) -> int:
    """Return a descriptor of sealed memory that holds the compiled modules of workers.

    Python's cache of compiled files is used, and filled, as when they are imported.
    """
    modules = []
    for file in _WORKER_FILES:
        name = f"{_PACKAGE}.{file.removesuffix('.py')}"
        code = SourceFileLoader(name, str(folder / file)).get_code(name)
        assert code is not None
        modules.append((name, _shown_at(code, f"{_SHOWN}/{file}")))
    held = os.memfd_create("worker", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    with os.fdopen(held, "wb", closefd=False) as file_in_memory:
        file_in_memory.write(marshal.dumps(modules))
    seals = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
    fcntl.fcntl(held, fcntl.F_ADD_SEALS, seals)
    return held


def _shown_at(code: CodeType, path: str) -> CodeType:
    parts = (
        _shown_at(part, path) if isinstance(part, CodeType) else part for part in code.co_consts
    )
    return code.replace(co_filename=path, co_consts=tuple(parts))


def command_of(bubblewrap: str | None, own_view: bool) -> tuple[list[str], int]:
    """Return the command of a worker, and the descriptor that it has to inherit.

    Its Python is the one under any virtual environment. With `own_view` it can mount its scratch
    folder before it confines itself. Without `bubblewrap`, a path, it runs in no name space.
    """
    python = os.path.realpath(sys._base_executable)  # type: ignore[attr-defined]
    held = code_of(_HERE)
    # The last argument is for the eyes of whoever lists processes.
    worker = [python, "-s", "-P", "-S", "-B", "-c", _FIRST_STEPS, str(held)]
    worker.append(f"{_SHOWN}/{_WORKER_FILES[-1]}")
    if bubblewrap is None:
        return worker, held
    return [*_name_space(bubblewrap, python, own_view), *worker], held


def _name_space(bubblewrap: str, python: str, own_view: bool) -> list[str]:
    """Return the command for a name space that shows this Python and numpy, read-only."""
    command = [bubblewrap, "--unshare-all", "--die-with-parent", "--new-session"]
    command += ["--cap-drop", "ALL", *(["--cap-add", "CAP_SYS_ADMIN"] if own_view else [])]
    command += ["--dir", "/tmp", "--dir", "/var/tmp"]
    prefix = os.path.realpath(sys.base_prefix)
    for path in ("/usr", "/lib", "/lib64", "/etc/ld.so.cache"):
        if os.path.islink(path):
            command += ["--symlink", os.readlink(path), path]
        elif os.path.exists(path):
            command += ["--ro-bind", path, path]
    for path in sorted({prefix, os.path.dirname(python)}):
        if not path.startswith(("/usr/", prefix + "/")):
            command += ["--ro-bind", path, path]
    for path in numpy_paths():
        command += ["--ro-bind", path, path]
    return [*command, "--dev", "/dev", "--chdir", "/", "--remount-ro", "/", "--"]


@functools.cache
def numpy_folder() -> str | None:
    """Return the folder of numpy, None where it is not installed."""
    spec = find_spec("numpy")
    return os.path.realpath(os.path.dirname(spec.origin)) if spec and spec.origin else None


def numpy_paths() -> list[str]:
    """Return the folders that numpy needs: its own and that of its compiled libraries."""
    folder = numpy_folder()
    return [path for path in (folder, f"{folder}.libs") if path and os.path.isdir(path)]


def numpy_version() -> str | None:
    """Return the version of numpy, None where it is not installed."""
    folder = numpy_folder()
    if folder is None:
        return None
    # A wheel says it in the name of the folder beside its package (PyPA specifications, Binary
    # distribution format). Loading `importlib.metadata` for that takes longer than many a grading.
    told = list(Path(folder).parent.glob("numpy-*.dist-info"))
    if len(told) == 1:
        return told[0].name.removeprefix("numpy-").removesuffix(".dist-info")
    from importlib.metadata import version

    return version("numpy")
