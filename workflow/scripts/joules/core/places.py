"""Where this checkout and its package lie on the disk."""

from pathlib import Path

SCRIPTS = Path(__file__).resolve().parents[2]
"""The folder that holds the package; what `PYTHONPATH` must name."""

PACKAGE = SCRIPTS / "joules"
REPOSITORY = SCRIPTS.parents[1]
