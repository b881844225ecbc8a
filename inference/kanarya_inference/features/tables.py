"""What can be wrong with a table."""


class TableError(Exception):
    """The table cannot be used; the message says what to change."""
