"""One look at the cluster: read what a decision needs, as plain values."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self

from kanarya.cluster import names, objects
from kanarya.cluster.objects import Plan, UnusableTarget
from kanarya.cluster.port import (
    CONFIGMAPS,
    DEPLOYMENTS,
    ENDPOINTSLICES,
    HTTPROUTES,
    PODS,
    REPLICASETS,
    SERVICES,
    KubeApi,
    Object,
)
from kanarya.decision.state import Identity
from kanarya.decision.world import Pods, Route, Stable, Target, World

MOST_IMAGE_CHARACTERS = 1024
"""References to images are shorter: 255 for the name, 128 for the tag, 71 for the digest."""

MOST_REASON_CHARACTERS = 63

STARTING = ("ContainerCreating", "PodInitializing")
"""What a container waits for that is about to start."""


class NameTaken(UnusableTarget):
    """Somebody else's object has a name that we need; the message says what to change."""

    @classmethod
    def by(cls, kind: str, name: str, rollout: str) -> Self:
        """Name the object."""
        return cls(
            f"{kind} {name} is there already and is not Kanarya's, which needs the name: delete it, give the rollout another name, "
            f"or, if it is from an earlier rollout, label it {names.ROLLOUT}={rollout}"
        )


@dataclass(frozen=True)
class View:
    """The raw objects of one look; the executor builds on them."""

    target: Object | None = None
    replicasets: Sequence[Object] = ()
    stables: Sequence[Object] = ()
    services: dict[str, Object | None] = field(default_factory=dict)
    route: Object | None = None
    settings: Object | None = None
    endpoints: Sequence[Object] = ()
    pods: Sequence[Object] = ()

    def pod_template(self, rollout: str, revision: str) -> Object | None:
        """Give the pod template of a revision: its stable Deployment's, else its ReplicaSet's."""
        name = names.stable_deployment(rollout, revision)
        known = next((body for body in self.stables if body["metadata"]["name"] == name), None) or self.replicaset(revision)
        return None if known is None else dict(known["spec"]["template"])

    def replicaset(self, revision: str) -> Object | None:
        """Give the target's ReplicaSet of a revision."""
        for body in self.replicasets:
            if body["metadata"].get("labels", {}).get(names.HASH) == revision:
                return body
        return None


async def look(api: KubeApi, plan: Plan) -> View:
    """Read every object that a decision on this rollout may depend on."""
    namespace, spec = plan.namespace, plan.spec
    stable, candidate, clients = names.stable_service(plan.name), names.candidate_service(plan.name), spec.service_ref.name
    (target, route, settings), (stable_svc, candidate_svc, client_svc), (stables, slices) = await asyncio.gather(
        asyncio.gather(
            api.get(DEPLOYMENTS, namespace, spec.target_ref.name),
            api.get(HTTPROUTES, namespace, plan.name),
            api.get(CONFIGMAPS, namespace, names.settings(plan.name)),
        ),
        asyncio.gather(
            api.get(SERVICES, namespace, stable), api.get(SERVICES, namespace, candidate), api.get(SERVICES, namespace, clients)
        ),
        asyncio.gather(
            api.list(DEPLOYMENTS, namespace, labels={names.ROLLOUT: plan.name, names.TRACK: "stable"}),
            api.list(ENDPOINTSLICES, namespace, labels={"kubernetes.io/service-name": stable}),
        ),
    )
    replicasets: Sequence[Object] = ()
    pods: Sequence[Object] = ()
    if target is not None:
        selector = target["spec"]["selector"].get("matchLabels", {})
        replicasets, pods = await asyncio.gather(
            api.list(REPLICASETS, namespace, labels=selector), api.list(PODS, namespace, labels=selector)
        )
        uid = target["metadata"]["uid"]
        replicasets = [body for body in replicasets if _owned_by(body, uid)]
    services = {stable: stable_svc, candidate: candidate_svc, clients: client_svc}
    return View(target, replicasets, stables, services, route, settings, slices, pods)


def _owned_by(body: Object, uid: str) -> bool:
    return any(owner.get("uid") == uid for owner in body["metadata"].get("ownerReferences", []))


def current_revision(view: View) -> Identity | None:
    """Give the identity of the target's current template; None while its controller has not caught up.

    The Deployment controller writes the same revision number on the Deployment and on the ReplicaSet of its template.
    """
    target = view.target
    if target is None or not _acted_on(target):
        return None
    key = "deployment.kubernetes.io/revision"
    number = target["metadata"].get("annotations", {}).get(key)
    for body in view.replicasets:
        if number is not None and body["metadata"].get("annotations", {}).get(key) == number:
            revision = body["metadata"].get("labels", {}).get(names.HASH)
            return objects.identity(revision, body["spec"]["template"]) if revision else None
    return None


def check_target(view: View) -> None:
    """Refuse a target whose pods we could not serve from.

    Raises
    ------
    UnusableTarget
        With what to change.
    """
    if view.target is None:
        return
    objects.model_port(view.target["spec"]["template"])
    selector = view.target["spec"]["selector"]
    if selector.get("matchExpressions"):
        raise UnusableTarget("the target's selector has matchExpressions: a Service cannot select by them, use matchLabels only")
    if names.TRACK in selector.get("matchLabels", {}) or view.target["metadata"].get("labels", {}).get(names.TRACK) == "stable":
        raise UnusableTarget("the target is a stable Deployment of Kanarya itself: name the Deployment that your chart renders")
    _check_template(view.target["spec"]["template"])


def _check_template(template: Object) -> None:
    if any(len(image) > MOST_IMAGE_CHARACTERS for image in objects.images(template)):
        raise UnusableTarget(f"an image of the target's pods has more than {MOST_IMAGE_CHARACTERS} characters: no registry has such a name")
    taken = {names.ROLLOUT, names.TRACK, names.REVISION} & (template.get("metadata", {}).get("labels") or {}).keys()
    if taken:
        raise UnusableTarget(
            f"the target's pods have the label {min(taken)}: Kanarya's own Services would select them, take it out of the template"
        )


def check_free(plan: Plan, view: View) -> None:
    """Refuse to begin where objects of others have the names that ours need.

    Raises
    ------
    NameTaken
        With what to change.
    """
    client = plan.spec.service_ref.name
    if names.ROLLOUT in ((view.services.get(client) or {}).get("metadata", {}).get("labels") or {}):
        raise NameTaken(f"Service {client} is one that Kanarya made: name the Service that clients call in spec.serviceRef")
    tracks = (names.stable_service(plan.name), names.candidate_service(plan.name))
    found: list[tuple[str, str, Object | None]] = [
        ("HTTPRoute", plan.name, view.route),
        *(("Service", track, view.services.get(track)) for track in tracks),
        ("ConfigMap", names.settings(plan.name), view.settings),
    ]
    for kind, name, body in found:
        if body is not None and not objects.is_labelled(body, plan.name):
            raise NameTaken.by(kind, name, plan.name)


def world_of(plan: Plan, view: View, *, candidate: str | None, changed: float) -> World:
    """Turn the objects of one look into what a decision may know.

    Parameters
    ----------
    candidate
        Revision whose pods are to be looked at; None when no run is on.
    changed
        When target or rollout were last seen to change.
    """
    target = view.target
    stable_service, candidate_service = _selected(plan, view)
    own, others = _endpoints(plan, view, stable_service)
    client = view.services.get(plan.spec.service_ref.name)
    selecting = target is not None and objects.selects(client, target["spec"]["template"])
    return World(
        target=None if target is None else Target(current_revision(view), target["spec"].get("replicas", 1), changed),
        pods=_pods(view, candidate),
        stables=_stables(plan, view),
        stable_service=stable_service,
        candidate_service=candidate_service,
        stable_endpoints=own,
        stale_endpoints=others,
        route=_route(plan, view.route),
        settings=_settings(view),
        settings_intact=_settings_intact(plan, view),
        selecting=(plan.spec.service_ref.name,) if selecting else (),
        service_exists=client is not None,
    )


def _selected(plan: Plan, view: View) -> tuple[str | None, str | None]:
    """Give the revisions that the two track Services select; None where a Service is absent or not as we write it."""
    found: list[str | None] = []
    for name, key in ((names.stable_service(plan.name), names.REVISION), (names.candidate_service(plan.name), names.HASH)):
        body = view.services.get(name)
        selector = (body or {}).get("spec", {}).get("selector") or {}
        revision = selector.get(key)
        wanted: dict[str, str] | None = None
        if revision and key == names.REVISION:
            wanted = objects.stable_selector(plan, revision)
        elif revision and view.target is not None:
            wanted = objects.candidate_selector(view.target, revision)
        found.append(revision if wanted is not None and wanted == selector and _ports_intact(plan, view, body, str(revision)) else None)
    return found[0], found[1]


def _ports_intact(plan: Plan, view: View, body: Object | None, revision: str) -> bool:
    """Whether a track's Service has the port that we give it, and leads to the port of the revision's pods where that is known."""
    ports = (body or {}).get("spec", {}).get("ports", [])
    if len(ports) != 1:
        return False
    wanted = objects.service_ports(plan, _model_port(plan, view, revision) or ports[0].get("targetPort"))
    return all(ports[0].get(key) == value for key, value in wanted[0].items())


def _model_port(plan: Plan, view: View, revision: str) -> int | str | None:
    """Give the port of a revision's pods; None when nothing tells it that somebody else may not have edited."""
    name = names.stable_deployment(plan.name, revision)
    stable = (body for body in view.stables if body["metadata"]["name"] == name and objects.template_intact(body))
    known = view.replicaset(revision) or next(stable, None)
    try:
        return None if known is None else objects.model_port(known["spec"]["template"])
    except UnusableTarget:
        return None


def _stables(plan: Plan, view: View) -> dict[str, Stable]:
    """Give the stable Deployments by revision. One that has only our labels, such as somebody's copy, is not ours."""
    found: dict[str, Stable] = {}
    for body in view.stables:
        known = objects.stable_identity(body)
        if known is None or body["metadata"].get("deletionTimestamp"):
            continue
        if body["metadata"]["name"] != names.stable_deployment(plan.name, known.revision):
            continue
        available = body.get("status", {}).get("availableReplicas", 0)
        intact = objects.template_intact(body)
        found[known.revision] = Stable(known, body["spec"].get("replicas", 1), available, intact, rolling=_rolling(body))
    return found


def _rolling(deployment: Object) -> bool:
    """Whether pods of an older template may be left: they count as available, too, and behind a Service they serve.

    The last ones go after the new ones are all there, so no number of available or updated pods alone shows it.
    """
    status = deployment.get("status", {})
    return not _acted_on(deployment) or status.get("replicas", 0) > status.get("updatedReplicas", 0)


def _acted_on(deployment: Object) -> bool:
    """Whether its controller has acted on a Deployment as it is now."""
    observed: int = deployment.get("status", {}).get("observedGeneration", 0)
    return bool(observed >= deployment["metadata"].get("generation", 0))


def _endpoints(plan: Plan, view: View, revision: str | None) -> tuple[int, int]:
    """Count ready endpoints of the stable Service: those of this revision, and others."""
    if revision is None:
        return 0, 0
    prefix = names.stable_deployment(plan.name, revision) + "-"
    own = others = 0
    for piece in view.endpoints:
        for endpoint in piece.get("endpoints") or []:
            if endpoint.get("conditions", {}).get("ready") is False:
                continue
            if str(endpoint.get("targetRef", {}).get("name", "")).startswith(prefix[:58]):
                own += 1
            else:
                others += 1
    return own, others


def _route(plan: Plan, body: Object | None) -> Route | None:
    if body is None:
        return None
    return Route(
        weight=objects.route_weight(plan, body),
        intact=objects.route_intact(plan, body),
        accepted=objects.route_accepted(body),
        resource_version=body["metadata"]["resourceVersion"],
        rolled_back=body["metadata"].get("annotations", {}).get(names.ROLLED_BACK, ""),
    )


def _settings(view: View) -> tuple[str, str | None] | None:
    document = objects.read_document(view.settings, "settings.json")
    if not isinstance(document, dict):
        return None
    try:
        tracks = document["tracks"]
        return tracks["stable"]["revision"], tracks["candidate"]["revision"]
    except (KeyError, TypeError):
        return None


def _settings_intact(plan: Plan, view: View) -> bool:
    document, revisions = objects.read_document(view.settings, "settings.json"), _settings(view)
    if revisions is None or not isinstance(document, dict):
        return False
    return bool(document == objects.settings_document(plan, *revisions, document.get("routeGeneration", 0)))


def _pods(view: View, candidate: str | None) -> Pods:
    ready = restarts = 0
    crashing = stuck = ""
    for pod in view.pods:
        if candidate is None or pod["metadata"].get("labels", {}).get(names.HASH) != candidate:
            continue
        if pod["metadata"].get("deletionTimestamp"):
            continue
        status = pod.get("status", {})
        conditions = {item.get("type"): item.get("status") for item in status.get("conditions", [])}
        ready += conditions.get("Ready") == "True"
        started: list[Object] = status.get("containerStatuses", [])
        restarts += sum(int(container.get("restartCount", 0)) - _lost(container) for container in started)
        waiting = _waiting(status)
        if "CrashLoopBackOff" in waiting:
            crashing = pod["metadata"]["name"]
        why = next((reason for reason in waiting if reason not in ("", *STARTING)), "")
        stuck = stuck or (why and f"{pod['metadata']['name']}: {why}")
    return Pods(ready, restarts, crashing, stuck)


def _waiting(status: Object) -> list[str]:
    """Give the cluster's words for what a pod waits for: a node, then what each of its containers needs."""
    unplaced = (item for item in status.get("conditions", []) if item.get("type") == "PodScheduled" and item.get("status") == "False")
    containers = (*status.get("initContainerStatuses", []), *status.get("containerStatuses", []))
    waiting = (container.get("state", {}).get("waiting", {}) for container in containers)
    return [str(found.get("reason") or "")[:MOST_REASON_CHARACTERS] for found in (*unplaced, *waiting)]


def _lost(container: Object) -> bool:
    """Whether the container's last end is one that nobody saw, as when its node went down: no fault of the candidate's."""
    reason = container.get("lastState", {}).get("terminated", {}).get("reason")
    return int(container.get("restartCount", 0)) > 0 and reason in ("Unknown", "ContainerStatusUnknown")
