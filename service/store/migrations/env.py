"""Alembic's entry: runs the versions on the connection that `Database.migrate` opened."""

from __future__ import annotations

from alembic import context

from service.store.records import Record

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Record.metadata,
    transactional_ddl=True,
    transaction_per_migration=False,
)
with context.begin_transaction():
    context.run_migrations()
