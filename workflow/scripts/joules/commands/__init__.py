"""Commands outside the workflow, each `python -m joules.commands.<name>`.

They arrange what other rooms do; nothing imports them. This package is loaded before any of its
modules, and so before any library that the user's surroundings could reach.
"""

from joules.core.places import REPOSITORY
from joules.machine import surroundings

surroundings.settle(REPOSITORY)
