"""Runs programs that a language model wrote, confined and judged.

`sandbox` is what others call; `worker` and what it imports run inside, on the standard library
alone.
"""
