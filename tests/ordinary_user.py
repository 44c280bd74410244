"""A user without rights, entry and home, and a Python that such a one can run."""

import shutil
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from small_study import CHECKOUT

WITHOUT_ENTRY = ("setpriv", "--reuid=54321", "--regid=54321", "--clear-groups")
PACKAGES = Path(psutil.__file__).parents[1]


def is_possible(*command: str) -> bool:
    """Return whether a command succeeds here."""
    try:
        return subprocess.run(command, capture_output=True).returncode == 0
    except OSError:
        return False


def readable_python() -> str:
    """Return a Python like this one that the user can start; skip the test without one."""
    name = f"python3.{sys.version_info.minor}"
    for python in (
        sys.executable,
        *(shutil.which(name, path=p) for p in ("/usr/bin", "/usr/local/bin")),
    ):
        # its own child, too: the first program may have kept root's rights to pass through folders
        code = "import subprocess, sys; subprocess.run([sys.executable, '-c', ''], check=True)"
        code += f"; open({str(CHECKOUT / 'Snakefile')!r}); open({psutil.__file__!r})"
        if python and is_possible(*WITHOUT_ENTRY, python, "-c", code):
            return python
    pytest.skip("this test cannot become a user without an entry who reads the checkout")
