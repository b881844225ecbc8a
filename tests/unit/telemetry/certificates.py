"""An authority of our own, and certificates signed by it, made with the machine's openssl."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, as files."""

    cert: Path
    key: Path


class Authority:
    """Signs certificates; everything it makes is a file in `folder`."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._name = name
        self.cert, self._key = folder / f"{name}.pem", folder / f"{name}.key"
        self._openssl(
            f"req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN={name} -days 2 -keyout {self._key} -out {self.cert}"
            " -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign"
        )

    def sign(self, name: str, *names: str, days: int = 2) -> Pair:
        """Make a certificate for `names`, such as `IP:127.0.0.1`; with `days` -1 it has expired."""
        pair, request = Pair(self._folder / f"{name}.pem", self._folder / f"{name}.key"), self._folder / f"{name}.csr"
        self._openssl(
            f"req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN={name} -keyout {pair.key} -out {request}"
            f" -addext subjectAltName={','.join(names)}"
        )
        self._openssl(
            f"x509 -req -in {request} -CA {self.cert} -CAkey {self._key} -CAcreateserial -days {days} -copy_extensions copy -out {pair.cert}"
        )
        return pair

    @staticmethod
    def _openssl(arguments: str) -> None:
        program = shutil.which("openssl")
        if program is None:
            pytest.fail("openssl is needed to make certificates for this test")
        subprocess.run([program, *arguments.split()], check=True, capture_output=True, timeout=60)
