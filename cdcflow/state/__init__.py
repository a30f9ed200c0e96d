"""What a pipeline remembers between runs: lease, checkpoint, table states, finished chunks."""

from cdcflow.state.store import SqlStore, open_store

__all__ = ["SqlStore", "open_store"]
