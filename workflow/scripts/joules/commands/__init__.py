"""Commands outside the workflow, each `python -m joules.commands.<name>`.

They arrange what other rooms do; nothing imports them.
"""
