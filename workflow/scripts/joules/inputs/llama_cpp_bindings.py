"""llama-cpp-python, over its own llama.cpp or over the one that the study's runtimes share.

The package asks its library for every function that it knows, and cannot be imported where one is
missing, even one that nobody calls. The shared llama.cpp is four weeks older than the package's own
and lacks 15 of 253. One line of the package is therefore read otherwise, in memory and over the
shared library alone: a function that is missing is left out. That the structures of both are the
same is held by tests/contract/test_struct_layouts.py.

Loaded by workers too: standard library only.
"""

import hashlib
import importlib.util
import sys
from types import ModuleType

from joules.core.errors import UserError
from joules.machine.llama_cpp_package import FACTS, PACKAGE, library_folder, package_folder

MODULE = "_ctypes_extensions"
LINE = "            if enabled:\n"
READ_AS = "            if enabled and hasattr(lib, name):\n"
KNOWN = "a7864ec4b9ed9a0341bc545e8622af91132866c759cdbab053eeebb04d46d9c3"  # of 0.3.36


def load() -> ModuleType:
    """Import llama_cpp and return it.

    Raises UserError where the library is the shared one and the package's file, of which a line is
    read otherwise, is not the known one.
    """
    folder = library_folder()
    if PACKAGE not in sys.modules and folder is not None and (folder / FACTS).exists():
        _read_otherwise()
    import llama_cpp

    return llama_cpp


def _read_otherwise() -> None:
    package = package_folder()
    if package is None:
        return
    file = package / f"{MODULE}.py"
    source = file.read_bytes()
    sha256 = hashlib.sha256(source).hexdigest()
    if sha256 != KNOWN:
        raise UserError(
            f"{file.name} of llama-cpp-python has the sha256 {sha256}; expected {KNOWN}, that of "
            "version 0.3.36, whose structures fit the shared llama.cpp. Install that version, or "
            "set runtime_options.llama_cpp.library to `stock`."
        )
    name = f"{PACKAGE}.{MODULE}"
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    text = source.decode()
    assert text.count(LINE) == 1
    sys.modules[name] = module
    exec(compile(text.replace(LINE, READ_AS), str(file), "exec"), module.__dict__)
