"""When the demo does not end as it should: everything a person would ask for, written down."""

from __future__ import annotations

from pathlib import Path

from examples import lab


def dump(namespace: str, folder: Path) -> Path:
    """Write objects, events, logs and the load's counts of a namespace into a folder; what cannot be read says so in its file."""
    folder.mkdir(parents=True, exist_ok=True)
    stats = f"/api/v1/namespaces/{namespace}/pods/load:9000/proxy/stats"
    commands = {
        "objects.yaml": ("get", "mlr,deploy,rs,pods,svc,endpointslices,httproute,configmap", "-n", namespace, "-o", "yaml"),
        "pods.txt": ("get", "pods", "-A", "-o", "wide"),
        "events.txt": ("get", "events", "-n", namespace, "--sort-by=.metadata.creationTimestamp"),
        "operator.log": ("logs", "-n", lab.OPERATOR_NAMESPACE, "deployment/kanarya", "--tail=2000"),
        "router.log": ("logs", "-n", namespace, "-l", "app.kubernetes.io/component=router", "--prefix", "--tail=500"),
        "model.log": ("logs", "-n", namespace, "-l", "app.kubernetes.io/component=model", "--prefix", "--tail=200"),
        "load.json": ("get", "--raw", stats),
        "nodes.txt": ("describe", "nodes"),
    }
    for name, command in commands.items():
        try:
            text = lab.kubectl(*command, timeout=30)
        except (lab.CommandFailed, OSError) as problem:
            text = f"not there: {problem}\n"
        (folder / name).write_text(text, encoding="utf-8")
    return folder
