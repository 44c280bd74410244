"""Figures from tables.

Nothing here computes a statistic that no table holds.
"""
