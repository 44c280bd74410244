"""The figures: one module each, found by name, never listed anywhere.

A module has `TABLES`, the names of the tables that it needs, and a function `draw` that takes them
in this order and `note`, a line below the axes, and returns the figure. Columns are those of
`joules.analyse`. Energies are in joule, power in watt. A new figure is a new module here.
"""
