"""Errors that are the user's to mend."""


class UserError(Exception):
    """Bad input or a machine that cannot do what was asked.

    The message says what was given, what was expected and what to do.
    """
