"""What an operator sees of a running pipeline: logs, metrics, health over HTTP, words to the service manager."""
