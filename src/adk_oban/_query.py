"""Every SQL statement of ours: one file each in `queries/`, bound to one schema."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from typing import LiteralString

# Oban writes the schema's name unquoted into its statements, and "<schema>.oban_…"
# into channel names, of which PostgreSQL reads 63 bytes.
_PREFIX = re.compile(r"[a-z_][a-z0-9_]{0,46}")


def validate_prefix(prefix: str) -> str:
    """Return `prefix` if it can name the schema that holds the tables.

    Raises:
        TypeError: It is not a string.
        ValueError: It is not a plain lower-case identifier of at most 47 characters,
            or is one of PostgreSQL's own (`pg_…`).
    """
    if not isinstance(prefix, str):
        raise TypeError(f"prefix must be a string, got {prefix!r}")
    if not _PREFIX.fullmatch(prefix) or prefix.startswith("pg_"):
        raise ValueError(
            f"prefix must be a lower-case PostgreSQL schema name (letters, digits, _; "
            f"at most 47 characters; not pg_…), got {prefix!r}"
        )
    return prefix


def bind(sql: str, prefix: str) -> LiteralString:
    """Put the schema's name, quoted, where `sql` says `{schema}`."""
    return sql.replace("{schema}", f'"{prefix}"')


@cache
def statement(name: str, prefix: str) -> LiteralString:
    """Return `queries/<name>.sql` bound to the schema `prefix`."""
    text = files("adk_oban").joinpath("queries", f"{name}.sql").read_text("utf-8")
    return bind(text, validate_prefix(prefix))
