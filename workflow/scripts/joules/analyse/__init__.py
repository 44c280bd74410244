"""From records and grades to tables and statistics: pure functions, no model, no meter.

What may be said of the numbers belongs to `write`.
"""
