"""Figures from tables.

Nothing here computes a statistic that no table holds, but for means of the rows of one: of a window
and of a task over the runs of a cell, which agree with the means of the cells.
"""
