"""Where the API server is and who we are: the pod's service account, else a kubeconfig."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from kubernetes.aio.client.configuration import Configuration
from kubernetes.aio.config.config_exception import ConfigException
from kubernetes.aio.config.incluster_config import InClusterConfigLoader
from kubernetes.aio.config.kube_config import load_kube_config

from kanarya.cluster.port import ApiError

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


class NotConfigured(ApiError):  # noqa: N818 -- an outcome, as its siblings in the port
    """There is no usable configuration of a cluster. Trying again does not help; the message says what to do."""


async def load_configuration(
    kubeconfig: Path | None,
    context: str | None,
    *,
    environ: Mapping[str, str] | None = None,
    service_account: Path = SERVICE_ACCOUNT,
) -> Configuration:
    """Return the client's configuration.

    A kubeconfig or a context named by the caller comes first, then the service account when this is a pod, then the file (or
    the list of files) in `KUBECONFIG`, then `~/.kube/config`. A service account's token is read again every minute, because
    Kubernetes rotates it. Raises `NotConfigured`.
    """
    environ = os.environ if environ is None else environ
    if kubeconfig is None and context is None and _in_pod(environ, service_account):
        return _from_service_account(environ, service_account)
    files = [kubeconfig] if kubeconfig else _default_files(environ)
    found = [str(file) for file in files if file.is_file()]
    if not found:
        raise NotConfigured(
            "No cluster is configured: this is not a pod with a service account, and there is no kubeconfig at "
            f"{os.pathsep.join(map(str, files))}. Set KUBECONFIG or name a kubeconfig."
        )
    return await _from_files(os.pathsep.join(found), context)


def _in_pod(environ: Mapping[str, str], service_account: Path) -> bool:
    return bool(environ.get("KUBERNETES_SERVICE_HOST")) and (service_account / "token").exists()


def _default_files(environ: Mapping[str, str]) -> list[Path]:
    named = [Path(part).expanduser() for part in environ.get("KUBECONFIG", "").split(os.pathsep) if part]
    return named or [Path("~/.kube/config").expanduser()]


def _from_service_account(environ: Mapping[str, str], service_account: Path) -> Configuration:
    configuration = Configuration()
    loader = InClusterConfigLoader(
        token_filename=str(service_account / "token"), cert_filename=str(service_account / "ca.crt"), environ=environ
    )
    try:
        loader.load_and_set(configuration)
    except (ConfigException, OSError) as error:
        raise NotConfigured(f"The pod's service account cannot be used: {error}") from error
    return configuration


async def _from_files(files: str, context: str | None) -> Configuration:
    configuration = Configuration()
    try:
        # Nothing is written back: the file belongs to the user.
        loader = await load_kube_config(files, context=context, client_configuration=configuration, persist_config=False)
    except (ConfigException, OSError) as error:
        raise NotConfigured(f"The kubeconfig {files} cannot be used: {error}") from error
    except (yaml.YAMLError, AttributeError, KeyError, TypeError, ValueError) as error:
        # Only the kind of the error: a parser's message quotes the file, and with it keys and tokens.
        raise NotConfigured(f"The kubeconfig {files} cannot be read: {type(error).__name__}") from error
    if getattr(loader, "exec_plugin_expiry", None) is not None:
        configuration.refresh_api_key_hook = _renew_with(loader)
    return configuration


def _renew_with(loader: Any) -> Any:
    """Ask a credentials plugin again when its token is about to expire; the loader knows when."""

    async def renew(configuration: Configuration) -> None:
        await loader.load_from_exec_plugin()
        configuration.api_key["BearerToken"] = loader.token

    return renew
