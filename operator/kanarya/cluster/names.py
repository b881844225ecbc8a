"""Names, labels and annotations of everything Kanarya writes. See docs/reference/objects.md."""

from __future__ import annotations

ROLLOUT = "kanarya.dev/rollout"
TRACK = "kanarya.dev/track"
REVISION = "kanarya.dev/revision"
RUN = "kanarya.dev/run"
VERSION = "kanarya.dev/version"
IMAGES = "kanarya.dev/images"
ABORT = "kanarya.dev/abort"
RETRY = "kanarya.dev/retry"
ROLLED_BACK = "kanarya.dev/rolled-back"
TEMPLATE_DIGEST = "kanarya.dev/template-digest"
MANAGED_BY = "app.kubernetes.io/managed-by"
MANAGER = "kanarya"
HASH = "pod-template-hash"
ROUTER_CONTROLLER = "kanarya.dev/ml-router"


def labels(rollout: str) -> dict[str, str]:
    """Give the labels of every object we own for a rollout."""
    return {ROLLOUT: rollout, MANAGED_BY: MANAGER}


def stable_service(rollout: str) -> str:
    """Give the name of the stable track's Service."""
    return f"{rollout}-stable"


def candidate_service(rollout: str) -> str:
    """Give the name of the candidate track's Service."""
    return f"{rollout}-candidate"


def stable_deployment(rollout: str, revision: str) -> str:
    """Give the name of the pinned stable of a revision."""
    return f"{rollout}-stable-{revision}"


def settings(rollout: str) -> str:
    """Give the name of the ConfigMap with the router's settings."""
    return f"{rollout}-router"


def checkpoint(rollout: str) -> str:
    """Give the name of the ConfigMap with the checkpoint."""
    return f"{rollout}-run"


def evidence(rollout: str, run: str, part: int) -> str:
    """Give the name of a part of a run's evidence."""
    return f"{rollout}-evidence-{run}-{part}"


def is_of(rollout: str, name: str) -> bool:
    """Whether a route, Service or Deployment of a rollout may have this name."""
    if not name.startswith(rollout):  # asked for each write in the cluster, of each rollout
        return False
    return name in {rollout, stable_service(rollout), candidate_service(rollout)} or name.startswith(stable_deployment(rollout, ""))


def router_pods(rollout: str) -> str:
    """Give what the names of the router's pods begin with."""
    return f"{rollout}-router-"


def stable_pods(rollout: str, revision: str) -> str:
    """Give what the names of a stable Deployment's pods begin with (cut like those of a ReplicaSet)."""
    return f"{stable_deployment(rollout, revision)}-"[:58]


def replicaset_pods(replicaset: str) -> str:
    """Give what the names of a ReplicaSet's pods begin with (Kubernetes cuts a long base at 58 characters)."""
    return f"{replicaset}-"[:58]
