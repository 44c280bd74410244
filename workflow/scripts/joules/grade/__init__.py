"""From the text of an answer to a verdict: extraction of the program, and the sandbox that runs it.

No energy and no statistics.
"""
