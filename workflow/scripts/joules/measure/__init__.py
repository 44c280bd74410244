"""One run from the quiet machine to its record.

Preparation, warm-up and agreement come before; then protocol, instrument, entries and rules of
validity; around all of it the campaign. It asks a runtime through its interface alone; what answers
are worth belongs to `grade`.
"""
