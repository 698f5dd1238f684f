"""Alembic migrations of the results service; package data, run by `services.database.migrate`."""
