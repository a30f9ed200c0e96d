"""The state's tables and their history, for Alembic. In the wheel this folder is the package `cdcflow.migrations`."""
