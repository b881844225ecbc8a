"""Carrying out the actions of a decision. Every write is idempotent; the points at which a crash matters have names."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable

from kanarya.cluster import names, objects
from kanarya.cluster.objects import Plan
from kanarya.cluster.observe import View
from kanarya.cluster.port import (
    CONFIGMAPS,
    DEPLOYMENTS,
    HTTPROUTES,
    REPLICASETS,
    SERVICES,
    AlreadyExists,
    ApiError,
    Conflict,
    Invalid,
    KubeApi,
    NotFound,
    Object,
    Resource,
)
from kanarya.decision.actions import (
    Action,
    DeleteStable,
    EnsureStable,
    LowerWeight,
    PointCandidate,
    PointStable,
    RaiseWeight,
    ScaleTarget,
    WriteSettings,
)

FAULT_POINTS = (
    "before-lower",
    "after-lower",
    "before-intent",
    "after-intent",
    "after-raise",
    "after-done",
    "before-action",
    "after-action",
    "after-checkpoint",
    "after-evidence",
)
"""Where tests stop the operator. The order in which these are passed is the restart protocol (docs/decisions/0006)."""

FaultPoint = Callable[[str], Awaitable[None]]


class TemplateLost(ApiError):  # noqa: N818 -- reads as the condition it becomes
    """The pod template of a revision is in no ReplicaSet any more."""


async def lower_weight(api: KubeApi, plan: Plan, weight: int, rolled_back: str = "") -> None:
    """Write the route with this weight, whatever stands there. One request; a missing route takes a second."""
    body = objects.route(plan, weight, rolled_back)
    try:
        await api.merge_patch(HTTPROUTES, plan.namespace, plan.name, {"metadata": _marks(body), "spec": body["spec"]})
    except NotFound:
        await api.create(HTTPROUTES, plan.namespace, body)


async def raise_weight(api: KubeApi, plan: Plan, weight: int, resource_version: str) -> None:
    """Write a higher weight, guarded by the version of the route it was decided on; raises `Conflict`."""
    body = objects.route(plan, weight)
    marks = {**_marks(body), "resourceVersion": resource_version}
    await api.merge_patch(HTTPROUTES, plan.namespace, plan.name, {"metadata": marks, "spec": body["spec"]})


def _marks(body: Object) -> Object:
    return {key: value for key, value in body["metadata"].items() if key in ("labels", "annotations")}


async def stop_mirroring(api: KubeApi, namespace: str, rollout: str) -> None:
    """Have the router forget the candidate, working from its settings alone."""
    body = await api.get(CONFIGMAPS, namespace, names.settings(rollout))
    document = objects.read_document(body, "settings.json")
    if not isinstance(document, dict):
        return
    try:
        document["tracks"]["candidate"]["revision"] = None
    except (KeyError, TypeError):
        return
    text = json.dumps(document, sort_keys=True)
    await api.merge_patch(CONFIGMAPS, namespace, names.settings(rollout), {"data": {"settings.json": text}})


class Executor:
    """Carries out actions against one cluster."""

    def __init__(self, api: KubeApi, at: FaultPoint) -> None:
        self._api = api
        self._at = at

    async def carry_out(self, plan: Plan, view: View, action: Action) -> None:
        """Carry out one action; raises `ApiError`."""
        match action:
            case LowerWeight(weight, rolled_back):
                await self._at("before-lower")
                await lower_weight(self._api, plan, weight, rolled_back)
                await self._at("after-lower")
                return
            case RaiseWeight(weight, resource_version):
                await raise_weight(self._api, plan, weight, resource_version)
                return
        await self._at("before-action")
        match action:
            case EnsureStable(revision, replicas):
                await self._ensure_stable(plan, view, revision, replicas)
            case DeleteStable(revision):
                await self._api.delete(DEPLOYMENTS, plan.namespace, names.stable_deployment(plan.name, revision))
            case PointStable(revision):
                selector = objects.stable_selector(plan, revision)
                await self._ensure_service(plan, view, names.stable_service(plan.name), selector, view.pod_template(plan.name, revision))
            case PointCandidate(revision):
                if view.target is not None:
                    selector = objects.candidate_selector(view.target, revision)
                    template = (view.replicaset(revision) or view.target)["spec"]["template"]
                    await self._ensure_service(plan, view, names.candidate_service(plan.name), selector, template)
            case WriteSettings(stable, candidate):
                await self._write_settings(plan, view, stable, candidate)
            case ScaleTarget(replicas):
                name = plan.spec.target_ref.name
                await self._api.merge_patch(DEPLOYMENTS, plan.namespace, name, {"spec": {"replicas": replicas}}, subresource="scale")
        await self._at("after-action")

    async def _ensure_stable(self, plan: Plan, view: View, revision: str, replicas: int) -> None:
        name = names.stable_deployment(plan.name, revision)
        existing = next((body for body in view.stables if body["metadata"]["name"] == name), None)
        if existing is not None and objects.template_intact(existing):
            if existing["spec"].get("replicas") != replicas:
                await self._api.merge_patch(DEPLOYMENTS, plan.namespace, name, {"spec": {"replicas": replicas}})
            return
        if existing is None and await self._labelled_again(plan, name, revision):
            return
        template = await self._template(plan, view, revision, existing)
        if view.target is None:
            raise TemplateLost(f"Deployment {plan.spec.target_ref.name} is gone: stable of revision {revision} cannot be built")
        body = objects.stable_deployment(plan, view.target, template, revision, replicas)
        if existing is None:
            await self._create(DEPLOYMENTS, plan, body)
            return
        # A merge patch would keep fields that somebody added: the template is replaced whole, and its digest with it.
        annotations = {**existing["metadata"].get("annotations", {}), **body["metadata"]["annotations"]}
        operations: list[Object] = [
            {"op": "replace", "path": "/spec/template", "value": body["spec"]["template"]},
            {"op": "add", "path": "/metadata/annotations", "value": annotations},
            {"op": "add", "path": "/spec/replicas", "value": replicas},
        ]
        await self._api.json_patch(DEPLOYMENTS, plan.namespace, name, operations)

    async def _labelled_again(self, plan: Plan, name: str, revision: str) -> bool:
        """Give a stable Deployment that only lost our labels these back; False when there is none. It needs no template for that."""
        found = await self._api.get(DEPLOYMENTS, plan.namespace, name)
        if found is None:
            return False
        wanted = objects.stable_labels(plan, revision)
        if wanted.items() <= (found["metadata"].get("labels") or {}).items():
            raise Conflict(f"Deployment {name} appeared meanwhile")
        if found["spec"]["selector"] != {"matchLabels": objects.stable_selector(plan, revision)} or not objects.template_intact(found):
            raise Invalid(f"Deployment {name} is there already and is not Kanarya's, which needs the name: delete it")
        await self._api.merge_patch(DEPLOYMENTS, plan.namespace, name, {"metadata": {"labels": wanted}})
        return True

    async def _template(self, plan: Plan, view: View, revision: str, existing: Object | None) -> Object:
        """Find the pod template of a revision: in the target's ReplicaSet, else in one of stable's own."""
        replicaset = view.replicaset(revision)
        if replicaset is not None:
            template: Object = replicaset["spec"]["template"]
            return template
        wanted = (existing or {}).get("metadata", {}).get("annotations", {}).get(names.TEMPLATE_DIGEST)
        for body in await self._api.list(REPLICASETS, plan.namespace, labels=objects.stable_selector(plan, revision)):
            candidate: Object = body["spec"]["template"]
            candidate.get("metadata", {}).get("labels", {}).pop(names.HASH, None)
            probe = {"metadata": {"annotations": {names.TEMPLATE_DIGEST: wanted}}, "spec": {"template": candidate}}
            if wanted and objects.template_intact(probe):
                return candidate
        raise TemplateLost(f"no ReplicaSet holds the pod template of revision {revision}: raise revisionHistoryLimit of the target")

    async def _ensure_service(self, plan: Plan, view: View, name: str, selector: dict[str, str], template: Object | None) -> None:
        """Have a track's Service select `selector`; the port is that of the very pods it selects."""
        body = view.services.get(name)
        if template is None:
            if body is not None:  # nothing is left to take the port from: it stays as it is
                await self._api.json_patch(SERVICES, plan.namespace, name, [{"op": "add", "path": "/spec/selector", "value": selector}])
            return
        port = objects.model_port(template)
        if body is None:
            await self._create(SERVICES, plan, objects.service(plan, name, selector, port))
            return
        operations: list[Object] = [
            {"op": "add", "path": "/spec/selector", "value": selector},
            {"op": "replace", "path": "/spec/ports", "value": objects.service_ports(plan, port)},
        ]
        await self._api.json_patch(SERVICES, plan.namespace, name, operations)

    async def _write_settings(self, plan: Plan, view: View, stable: str, candidate: str | None) -> None:
        generation = 0 if view.route is None else int(view.route["metadata"].get("generation", 0))
        document = objects.settings_document(plan, stable, candidate, generation)
        body = objects.config_map(plan, names.settings(plan.name), "settings.json", document)
        await write_config_map(self._api, plan.namespace, body)

    async def _create(self, resource: Resource, plan: Plan, body: Object) -> None:
        try:
            await self._api.create(resource, plan.namespace, body)
        except AlreadyExists as error:
            raise Conflict(f"{resource.kind} {body['metadata']['name']} appeared meanwhile: {error}") from error


async def write_config_map(api: KubeApi, namespace: str, body: Object) -> None:
    """Write a ConfigMap of ours whole, whether it exists or not."""
    patch = {"metadata": {"labels": body["metadata"]["labels"]}, "data": body["data"]}
    try:
        await api.merge_patch(CONFIGMAPS, namespace, body["metadata"]["name"], patch)
    except NotFound:
        await api.create(CONFIGMAPS, namespace, body)
