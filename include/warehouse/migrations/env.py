"""Alembic's entry point: runs the migrations on the connection that include.warehouse.migrate opened."""

from alembic import context

context.configure(connection=context.config.attributes["connection"], version_table_schema="ops")
with context.begin_transaction():
    context.run_migrations()
