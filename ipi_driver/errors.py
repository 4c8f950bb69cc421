"""The one exception that a user is meant to read."""


class UserError(Exception):
    """Bad input: the message names in one line what is wrong, what was expected, what was got, and the remedy.

    The command line prints it as ``error: MESSAGE`` on standard error and exits with its ``status``; no traceback.
    """

    status = 2
