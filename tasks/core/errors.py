"""The error that commands print without a traceback."""


class UserError(Exception):
    """Error that the user can correct; its message states what is wrong and what is allowed."""
