"""What every room may use.

Errors, files, units, wording, the types of all that is stored or configured, the plan of runs and
the paths. Standard library, msgspec and pyyaml only, so that rule files may import it; nothing here
touches the machine, a model or a table.
"""
