"""Where llama-cpp-python lies in this interpreter, and which llama.cpp it has.

Loaded by workers too: standard library only. It imports nothing of the package.
"""

import importlib.util
import os
from pathlib import Path

PACKAGE = "llama_cpp"
VARIABLE = "LLAMA_CPP_LIB_PATH"  # the package's own: the folder of another library than its own
FACTS = "llama.cpp.json"  # beside the shared library, what it was built from


def package_folder() -> Path | None:
    """Return the folder of the package in this interpreter; None where it has none."""
    found = importlib.util.find_spec(PACKAGE)
    return Path(found.origin).parent if found is not None and found.origin else None


def packaged_library() -> Path | None:
    """Return the folder of the library inside the package; None where there is none."""
    package = package_folder()
    folder = None if package is None else package / "lib"
    return folder if folder is not None and any(folder.glob("libllama.*")) else None


def library_folder() -> Path | None:
    """Return the folder of the library that the package loads: one that is named, or its own."""
    named = os.environ.get(VARIABLE)
    return Path(named) if named else packaged_library()


def has_own_library() -> bool:
    """Return whether the package in this interpreter was compiled with its own llama.cpp."""
    folder = packaged_library()
    return folder is not None and not (folder / FACTS).exists()
