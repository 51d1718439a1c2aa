"""The ledger's schema, version by version; Alembic brings a database forward when it is opened."""
