"""RabbitMQ: `target` publishes to a topic exchange, `source` reads quorum queues or streams."""
