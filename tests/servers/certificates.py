"""A certificate authority of the tests' own, and the certificates that it signs, made by the `openssl` command."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.servers.cache import account


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate and its key, which only its owner may read."""

    certificate: Path
    key: Path


class Authority:
    """Signs certificates, in a folder of its own. Tests that need it are left out where there is no `openssl`."""

    def __init__(self, folder: Path, name: str = "tests") -> None:
        if shutil.which("openssl") is None:
            pytest.skip("there is no `openssl` command to make certificates with")
        self._folder, self._name = folder, name
        self._folder.mkdir()
        self._folder.chmod(0o755)
        self._key = self._folder / "ca.key"
        self.certificate = self._folder / "ca.crt"
        new = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
        self._openssl(*new, "-subj", f"/CN={name}", "-keyout", self._key, "-out", self.certificate)

    def sign(self, name: str, alternatives: str = "", *, for_server: bool = True) -> Certificate:
        """Return a certificate of `name`; `alternatives` as `IP:127.0.0.1,DNS:localhost`.

        The key of a server's belongs to the account that servers run under.
        """
        stem = name.replace("*", "any")
        made = Certificate(self._folder / f"{stem}.crt", self._folder / f"{stem}.key")
        request, extensions = self._folder / f"{stem}.csr", self._folder / f"{stem}.ext"
        extensions.write_text(f"subjectAltName={alternatives}\n" if alternatives else "basicConstraints=CA:FALSE\n")
        asked = ["req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        self._openssl(*asked, "-subj", f"/CN={name}", "-keyout", made.key, "-out", request)
        signing: list[str | Path] = [
            "x509",
            "-req",
            "-in",
            request,
            "-CA",
            self.certificate,
            "-CAkey",
            self._key,
            "-CAcreateserial",
        ]
        self._openssl(*signing, "-days", "2", "-extfile", extensions, "-out", made.certificate)
        made.key.chmod(0o600)
        if for_server:
            account().own(made.key)
        return made

    def _openssl(self, *arguments: str | Path) -> None:
        done = subprocess.run(["openssl", *arguments], capture_output=True, text=True, check=False, timeout=30)
        assert done.returncode == 0, done.stderr
