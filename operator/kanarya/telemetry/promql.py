"""PromQL from parts. Every value that stands in a resource enters a query through `escaped`, and nowhere else."""

from __future__ import annotations

import re
from collections.abc import Collection

_ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\ufffd": "\\ufffd"}
"""U+FFFD as it is would be taken for a query that is no UTF-8."""

_METACHARACTERS = re.compile(r"[\\.+*?()|\[\]{}^$]")


def escaped(value: str, *, regex: bool = False) -> str:
    r"""Write `value` so that it stands for itself between double quotes in PromQL.

    With `regex` it also stands for itself in the pattern of `=~`: the characters that RE2 gives a meaning are quoted first.
    (Python's `re.escape` will not do: it quotes the blank too, which RE2 refuses.) Half a surrogate pair, which no label value can
    hold, becomes U+FFFD: it could not be sent, and would take the queries of others with it.
    """
    value = value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    if regex:
        value = pattern(value)
    return "".join(_ESCAPES.get(character, character) for character in value)


def pattern(value: str) -> str:
    """Write the pattern that matches just `value`; it still has to be `escaped` to stand in a query."""
    return _METACHARACTERS.sub(lambda found: "\\" + found[0], value)


def unequal(label: str, value: str) -> str:
    """Match any value of a label but one, and series without the label."""
    return f'{label}!="{escaped(value)}"'


def one_of(label: str, values: Collection[str], *, or_absent: bool = False) -> str:
    """Match any of `values`; with `or_absent` also series without the label."""
    patterns = [escaped(value, regex=True) for value in sorted(values)]
    return f'{label}=~"{"|".join([*patterns, ""] if or_absent else patterns)}"'


def starting_with(label: str, prefixes: Collection[str]) -> str:
    """Match values that begin with one of `prefixes`."""
    patterns = "|".join(escaped(prefix, regex=True) for prefix in sorted(prefixes))
    return f'{label}=~"(?:{patterns}).*"'


def samples(matchers: Collection[str], seconds: int) -> str:
    """Write a selector of the raw samples of the last `seconds`."""
    return f"{{{','.join(matchers)}}}[{seconds:d}s]"
