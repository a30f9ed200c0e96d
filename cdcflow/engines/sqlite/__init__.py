"""What SQLite as a target and the state in a SQLite file share: connections, the write lock, errors."""
