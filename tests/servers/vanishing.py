"""A peer that vanishes: nothing that is sent to it arrives, and nothing comes back, as when a cable is pulled.

`Proxy.hang` is another failure: there the kernel goes on acknowledging what arrives, so the connection looks alive.
"""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.servers.proxy import HasPort, Proxy

_numbers = itertools.count(1)


class Vanishing:
    """A proxy on a loopback address of its own, whose packets can be led to a network card with nobody behind it.

    Only root may do that: tests that need it are left out elsewhere.
    """

    def __init__(self, server: HasPort) -> None:
        if os.getuid() != 0 or shutil.which("ip") is None:
            pytest.skip("only root, with the `ip` command, can make an address vanish")
        number = next(_numbers)
        self._address = f"127.{100 + number % 100}.{os.getpid() // 256 % 256}.{os.getpid() % 256}"
        self._card, other = f"cdcv{os.getpid()}-{number}a"[-15:], f"cdcv{os.getpid()}-{number}b"[-15:]
        self._gone = False
        problem = self._lay(other)
        if problem:
            self._run("link", "del", self._card)
            pytest.skip(f"an address cannot be made to vanish here: {problem}")
        self._proxy = Proxy(server, host=self._address)

    def through(self, url: str) -> str:
        """Return the URL with this way in the place of its host and port."""
        return self._proxy.through(url)

    def vanish(self) -> None:
        """Be gone, for open connections and new ones. The server's side of open ones stays open."""
        self._proxy.hang()
        problem = self._route("add")
        assert not problem, problem
        self._gone = True

    def forget(self) -> None:
        """Have been gone so long that only the server still knows the connections that were open."""
        self._proxy.forget()

    def come_back(self) -> None:
        """Be there for new connections, and for old ones that nobody has given up."""
        if self._gone:
            problem = self._route("del")
            assert not problem, problem
            self._gone = False
        self._proxy.passing()

    def close(self) -> None:
        """End it and every connection through it."""
        self._proxy.close()
        self._run("link", "del", self._card)

    def _lay(self, other: str) -> str:
        """Make the card, and let the loopback address go through it; return what went wrong."""
        try:
            problem = self._run("link", "add", self._card, "type", "veth", "peer", "name", other)
            if problem:
                return problem
            for card in (self._card, other):
                Path(f"/proc/sys/net/ipv6/conf/{card}/disable_ipv6").write_text("1")
                problem = problem or self._run("link", "set", card, "up")
            Path(f"/proc/sys/net/ipv4/conf/{self._card}/route_localnet").write_text("1")
            # A fixed hardware address: else the kernel would notice, and say, that nobody answers.
            nobody = ("lladdr", "02:00:00:00:00:01", "nud", "permanent")
            return problem or self._run("neigh", "add", self._address, *nobody, "dev", self._card)
        except OSError as error:
            return str(error)

    def _route(self, verb: str) -> str:
        # In the table that is asked first, and more exact than loopback's own route.
        return self._run("route", verb, f"{self._address}/32", "dev", self._card, "table", "local")

    def _run(self, *arguments: str) -> str:
        """Run `ip`; return what went wrong."""
        done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False, timeout=30)
        return done.stderr.strip() or f"ip ended with {done.returncode}" if done.returncode else ""
