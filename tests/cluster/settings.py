"""Where things are kept and what they are called: everything the tool reads from the environment, in one place."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

REPOSITORY = Path(__file__).resolve().parents[2]
"""The checkout that this file belongs to."""

NODE = Path(__file__).resolve().parent / "node"
"""The sources of the node image: Go modules that pin programs, and the files copied into the node."""

MANIFESTS = Path(__file__).resolve().parent / "manifests"

CLUSTER = "kanarya"
"""The kind cluster's name."""

CONTEXT = f"kind-{CLUSTER}"
"""The context that kind writes into the kubeconfig."""

OPERATOR_IMAGE = "kanarya/operator:dev"
INFERENCE_IMAGE = "kanarya/inference:dev"
PYTHON_IMAGE = "kanarya/python:3.11-bookworm"
PROMETHEUS_IMAGE = "kanarya/prometheus:dev"

PUBLISHED_PYTHON_IMAGE = "python:3.11-slim-bookworm"
PUBLISHED_PROMETHEUS_IMAGE = "prom/prometheus:v3.4.2"


class Unavailable(Exception):  # noqa: N818 - says what is missing, which is no mistake of the program's
    """The tool cannot go on here; the message is one sentence for a person."""


@dataclass(frozen=True)
class Settings:
    """What the environment decides."""

    cache: Path
    """Everything that may be kept between runs. Deleting it costs one cold build."""

    given_kubeconfig: Path | None
    """A cluster that somebody else made; the tool then makes none."""

    allowed_contexts: frozenset[str]
    """Contexts that tests may touch. Anything else is refused, so that a stray kubeconfig costs nobody a cluster."""

    scrape_seconds: int
    """How often Prometheus scrapes pods."""

    @classmethod
    def read(cls, environ: Mapping[str, str] = os.environ) -> Settings:
        """Read the settings from the environment."""
        given = environ.get("KANARYA_KUBECONFIG")
        seconds = environ.get("KANARYA_SCRAPE_SECONDS") or "2"
        if not seconds.isascii() or not seconds.isdigit() or int(seconds) < 1:
            raise Unavailable(f"KANARYA_SCRAPE_SECONDS must be a whole number of seconds, at least 1, but is {seconds!r}.")
        cache = environ.get("KANARYA_CACHE")
        contexts = environ.get("KANARYA_ALLOWED_CONTEXTS") or CONTEXT
        return cls(
            cache=(Path(cache) if cache else Path.home() / ".cache" / "kanarya").absolute(),
            given_kubeconfig=Path(given).absolute() if given else None,
            allowed_contexts=frozenset(name.strip() for name in contexts.split(",") if name.strip()),
            scrape_seconds=int(seconds),
        )

    @property
    def kubeconfig(self) -> Path:
        """The kubeconfig that every kubectl call uses."""
        return self.given_kubeconfig or self.cache / "kubeconfig"

    @property
    def bin(self) -> Path:
        """The programs that people and tests call: kind, kubectl, helm."""
        return self.cache / "bin"

    @property
    def logs(self) -> Path:
        """The output of long-running children, one file per step."""
        return self.cache / "logs"

    @property
    def engine(self) -> Path:
        """The state of the Docker engine that the tool starts itself."""
        return self.cache / "docker"

    @property
    def socket(self) -> Path:
        """Where that engine listens."""
        return self.engine / "docker.sock"
