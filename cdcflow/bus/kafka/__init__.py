"""Kafka: `target` publishes, `source` reads as a member of a consumer group."""
