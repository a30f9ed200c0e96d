"""One server by hand: `python -m tests.servers.bus_up kafka|registry|rabbitmq [port]`, until Ctrl-C."""

from __future__ import annotations

import signal
import sys

from tests.servers.kafka_server import kafka_processes
from tests.servers.rabbitmq_server import rabbitmq_process
from tests.servers.registry_server import registry_process
from tests.servers.session import Session


def main() -> None:
    """Start it, print its URL, wait for the end, remove it."""
    asked = sys.argv[1] if len(sys.argv) > 1 else "kafka"
    port = int(sys.argv[2]) if len(sys.argv) > 2 else None
    for ending in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, lambda *_: sys.exit())
    session = Session()
    try:
        _run(asked, session, port)
    except KeyboardInterrupt:
        pass
    finally:
        session.remove()


def _run(asked: str, session: Session, port: int | None) -> None:
    folder = session.path / asked
    if asked == "kafka":
        kafka, _ = kafka_processes(folder, port=port)
        try:
            print(kafka.start().url(), flush=True)
            signal.pause()
        finally:
            kafka.remove()
    elif asked == "registry":
        registry, _ = registry_process(folder, port=port)
        try:
            print(registry.start().url, flush=True)
            signal.pause()
        finally:
            registry.remove()
    elif asked == "rabbitmq":
        rabbitmq, _ = rabbitmq_process(folder, port=port)
        try:
            rabbitmq.start()
            print(rabbitmq.url(), "streams:", rabbitmq.stream_port, rabbitmq.management_url, flush=True)
            signal.pause()
        finally:
            rabbitmq.remove()
    else:
        sys.exit(f"there is no server called {asked}: kafka, registry or rabbitmq")


if __name__ == "__main__":
    main()
