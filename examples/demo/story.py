"""The demo from beginning to end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from typing import Any

from examples import lab
from examples.demo.releases import Ended, evidence_commands, release, verify
from examples.demo.stages import StageFailed, Stages
from examples.demo.text import basis, clock, table
from kanarya_inference import features, training

NAMESPACE = "kanarya-demo"
RATE = 50
CLUSTER_COMMANDS = (
    ("up", "cluster up (kind; the first time it is made)", 1800.0),
    ("build", "build the images", 3600.0),
    ("load", "load the images into the cluster", 900.0),
    ("prometheus", "Prometheus", 300.0),
)


@dataclass(frozen=True)
class Act:
    """One release of the demo: what it shows, and how it must end."""

    label: str
    title: str
    version: str
    expected: str
    faults: tuple[str, ...] = ()
    turns: Mapping[str, float] = field(default_factory=dict)
    """Faults that begin with the first weight; needs `--fault-control`."""
    changes: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the rollout's spec that differ from the demo's own."""


ACTS = (
    Act("good", "a good one", "v1.8.1", "Succeeded"),
    Act(
        "failing with clients",
        "it works until clients get its answers; from then on one request in five fails",
        "v1.8.2",
        "RolledBack",
        ("--fault-control",),
        {"errorRate": 0.2},
        {"plan": {"steps": lab.steps(25, 50, 100, seconds=8)}},
    ),
    Act(
        "failing at once",
        "the same fault from the start, so that copies of requests show it before clients meet it",
        "v1.8.2",
        "RolledBack",
        ("--fault-error-rate", "0.2"),
    ),
)
OWN_STAGES = 5 + len(ACTS)
STAGES = len(CLUSTER_COMMANDS) + OWN_STAGES


def model_service() -> lab.ModelService:
    """Give the demo's model service. Its latency limits are wide: the machine may be small, and busy with other things."""
    spec = lab.short_spec()
    spec["analysis"]["latency"] = {"sloMilliseconds": 500, "abortMilliseconds": 1000}
    return lab.ModelService(NAMESPACE, models_folder(), spec=spec)


def models_folder() -> Path:
    """Give the folder of trained models; another one when the code that trains them has changed."""
    key = sha256()
    for package in (features, training):
        for file in sorted(files(package).iterdir(), key=lambda file: file.name):
            if file.name.endswith((".py", ".json")):
                key.update(file.read_bytes())
    return lab.ROOT / "build/out/models" / key.hexdigest()[:12]


def play(stages: Stages, *, ready: bool = False) -> list[Ended]:
    """Play the demo, without the cluster's stages if that is `ready`; gives how the releases ended."""
    for command, title, seconds in () if ready else CLUSTER_COMMANDS:
        with stages.stage(title):
            stages.cluster(command, seconds)
    lab.cluster_environment()
    service = model_service()
    with stages.stage(f"train {len(lab.MODELS)} models, unless they are there"):
        lab.models(service.models)
    with stages.stage("install the operator: helm upgrade --install kanarya charts/kanarya"):
        lab.install_operator()
    with stages.stage(f"install the model service v1.8.0 in a clean namespace: helm install {service.name} charts/inference"):
        clean(service)
        service.release("v1.8.0")
        service.wait_ready()
        stages.say("      adopted: v1.8.0 is stable, the router answers, the target is scaled down")
    with stages.stage(f"steady load: {RATE} requests a second, half of them on new connections, none retried"):
        service.start_load(RATE)
    ended: list[Ended] = []
    for act in ACTS:
        with stages.stage(f"release {act.version}: {act.title}"):
            changed = replace(service, spec={**service.spec, **act.changes})
            ended.append(tell(stages, release(changed, stages, act.version, act.faults, act.turns)))
    with stages.stage("check the evidence again, from what the cluster holds"):
        for one in ended:
            get, check = evidence_commands(service, one.run)
            stages.say(f"      {get} | {check}")
            stages.say(f"      {verify(service, one.run)}")
            stages.say(f"      {one.version}: {basis([entry for part in service.evidence(one.run) for entry in part['entries']])}")
    return ended


def clean(service: lab.ModelService) -> None:
    """Begin with a namespace that has nothing of an earlier demo."""
    lab.kubectl("delete", "namespace", service.namespace, "--ignore-not-found", "--timeout=150s", timeout=160)
    service.create_namespace()


def tell(stages: Stages, ended: Ended) -> Ended:
    """Say how a release ended."""
    stages.say(f"      {ended.outcome} ({ended.reason}) after {ended.seconds:.0f} s; highest weight {ended.highest} %")
    stages.say(f"      {ended.harm.sentence()}")
    return ended


def summary(ended: Sequence[Ended], seconds: float) -> str:
    """Give the closing table."""
    rows = [
        (
            f"{one.version} {act.label}",
            one.outcome,
            one.reason,
            f"{one.seconds:.0f} s",
            f"{one.highest} %",
            str(one.errors),
            "no bad answer" if not one.harm.errors else "not seen" if one.harm.to_zero is None else f"{one.harm.to_zero:.1f} s",
        )
        for act, one in zip(ACTS, ended, strict=True)
    ]
    heads = ("release", "outcome", "reason", "took", "highest weight", "client errors", "first bad answer to weight 0")
    return f"{table(heads, rows)}\n\nTotal time {clock(seconds).strip()}."


def unexpected(ended: Sequence[Ended]) -> str | None:
    """Give a sentence on the first release that did not end as it should."""
    for act, one in zip(ACTS, ended, strict=True):
        if one.outcome != act.expected:
            return f"{act.version} ({act.label}) should have ended as {act.expected}, but ended as {one.outcome} ({one.reason})."
    return None


def next_steps(service: lab.ModelService, runs: Sequence[Ended]) -> str:
    """Give what to look at and try now, as commands."""
    name, space = service.name, service.namespace
    upgrade = f"helm upgrade {name} charts/inference -n {space} --reuse-values"
    reads = [f"  uv run {get} | uv run {check}" for get, check in (evidence_commands(service, one.run) for one in runs)]
    return "\n".join(
        (
            "The cluster and the load go on. In a shell:",
            '  eval "$(uv run python -m tests.cluster env)"',
            "",
            "Look, and check the evidence:",
            f"  kubectl get mlr -n {space} -w",
            f"  uv run kanarya status {name} -n {space} --watch",
            f"  kubectl get configmap -n {space} -l kanarya.dev/run",
            *reads,
            "",
            "Release more (the same with a live view: uv run python -m examples.demo release v1.9.0):",
            f'  {upgrade} --set model.version=v1.8.2 --set-json \'extraArgs=["--fault-latency-ms","1500"]\'    # slow',
            f"  {upgrade} --set model.version=v1.9.0 --set-json 'extraArgs=[]'    # disagrees with stable",
            f"  {upgrade} --set model.version=v1.9.1 --set-json 'extraArgs=[]'    # trained on other data: drift",
            "",
            "Abort a run:",
            f"  {abort_command(service)}",
            "",
            "Remove everything:  make cluster-down",
        )
    )


def abort_command(service: lab.ModelService) -> str:
    """Give the command that aborts the run under way."""
    run = f"$(kubectl get mlr {service.name} -n {service.namespace} -o jsonpath='{{.status.run.id}}')"
    return f"kubectl annotate mlr {service.name} -n {service.namespace} --overwrite kanarya.dev/abort={run}"


def require_service(service: lab.ModelService) -> None:
    """Refuse in one sentence when there is no demo to release on."""
    try:
        service.stats()
        service.rollout()
    except (lab.CommandFailed, ValueError) as missing:
        raise StageFailed(f"there is no running demo in namespace {service.namespace}: run `make demo` first ({missing})") from missing
