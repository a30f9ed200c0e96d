"""One server by hand: `python -m tests.servers.mysql_up 9.7|8.0|11.8|11.4|10.11|10.6|mariadb [port]`, until Ctrl-C."""

from __future__ import annotations

import signal
import sys

from tests.servers.mysql_server import MysqlServer
from tests.servers.mysql_trees import Flavour, tree_of
from tests.servers.session import Session


def main() -> None:
    """Start it, print its URL, wait for the end, remove it."""
    asked = sys.argv[1] if len(sys.argv) > 1 else "9.7"
    version = "11.8" if asked == "mariadb" else asked
    flavour: Flavour = "mariadb" if version.startswith(("10.", "11.")) else "mysql"
    port = int(sys.argv[2]) if len(sys.argv) > 2 else None
    session = Session()
    server = MysqlServer(tree_of(flavour, version), session.path / asked, port=port)
    try:
        for ending in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(ending, lambda *_: sys.exit())
        server.start()
        print(server.url(), "log:", server.folder / "log", flush=True)
        signal.pause()
    except KeyboardInterrupt:
        pass
    finally:
        server.remove()
        session.remove()


if __name__ == "__main__":
    main()
