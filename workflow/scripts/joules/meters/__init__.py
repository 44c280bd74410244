"""Energy meters, one module each, and the reader that samples them.

A meter knows hardware and joules; what a window or a run is belongs to `measure`.
"""
