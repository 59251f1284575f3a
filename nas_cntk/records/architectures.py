"""Architectures as they are recorded: once each, by canonical key."""

from __future__ import annotations

import sqlalchemy as sa

from nas_cntk.records.tables import ARCHITECTURES


def insert_architecture(connection: sa.Connection, key: str, text: str) -> None:
    """Record an architecture's JSON under its canonical key, if none is there."""
    known = sa.select(ARCHITECTURES.c.key).where(ARCHITECTURES.c.key == key)
    if connection.execute(known).first() is None:
        connection.execute(ARCHITECTURES.insert().values(key=key, json=text))
