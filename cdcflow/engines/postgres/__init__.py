"""What both PostgreSQL connectors share: names, connections, errors, libpq in bulk."""

from cdcflow.codecs.loading import load

load("cdcflow.engines.postgres.libpq_cy")
