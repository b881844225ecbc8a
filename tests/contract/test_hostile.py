"""Hostile objects meet the API server first. What it lets through, the operator reads or refuses in a sentence."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import pytest

from kanarya.api.crd import NAME_NOT_LABEL, NAME_TOO_LONG, custom_resource_definition
from kanarya.api.rollout import InvalidSpec, RolloutSpec, ServiceRef, TargetRef, parse_spec
from kanarya.cluster import events, objects
from kanarya.cluster.kubernetes import KubernetesApi
from kanarya.cluster.port import CONFIGMAPS, DEPLOYMENTS, EVENTS, HTTPROUTES, ROLLOUTS, Invalid, KubeApi, Object
from kanarya.controller.acceptance import Refused, check_name
from kanarya.decision.actions import Notice
from tests.contract import bodies
from tests.contract.crd.conftest import _installed
from tests.contract.worlds import World, kubeconfig_path
from tests.unit.cluster_objects.bodies import plan

(VERSION,) = custom_resource_definition()["spec"]["versions"]
SCHEMA = VERSION["schema"]["openAPIV3Schema"]["properties"]["spec"]
WHOLE: Object = RolloutSpec(target_ref=TargetRef(name="fraud"), service_ref=ServiceRef(name="fraud")).model_dump(
    mode="json", by_alias=True, exclude_none=True
)
# An example of everything that may be wrong: the list of metrics is empty by default.
WHOLE["analysis"]["metrics"] = [{"name": "own", "query": "up", "slo": 1.0, "abort": 2.0, "action": "Report"}]
HIDDEN = "a\u202eb\u2066c\x07\x1b[2J\u200b\ufeff\u2028\r\td😀"
MIB = "x" * 2**20


def deep(levels: int) -> Any:
    nested: Any = []
    for _ in range(levels):
        nested = [nested]
    return nested


WRONG: tuple[Any, ...] = (
    *("", "5", "NaN", "0.01", 'x"} or vector(1) #', HIDDEN, "x" * 900_000),
    *(-1, -0.0, 0.5, 2**63, 10**30, 1e308, math.nan, math.inf),
    *(None, True, [], {}, [None] * 3000, deep(100)),
)


def schema_paths(schema: Object, here: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if here:
        yield here
    for name, field in schema.get("properties", {}).items():
        yield from schema_paths(field, (*here, name))
    if "items" in schema:
        yield from schema_paths(schema["items"], (*here, 0))


PATHS = sorted(schema_paths(SCHEMA), key=str)


class Server:
    """Tries a rollout on without keeping it: a dry run on a real API server, nothing on the one in memory, which has no schema."""

    def __init__(self, world: World) -> None:
        self._api, self._namespace = world.api, world.namespace
        self.is_real = isinstance(world.api, KubernetesApi)

    async def try_on(self, name: str, spec: Any) -> Object:
        body = {**bodies.rollout(name), "spec": spec}
        if not isinstance(self._api, KubernetesApi):
            return body
        path = f"/apis/{ROLLOUTS.api_version}/namespaces/{self._namespace}/{ROLLOUTS.plural}"
        return await self._api._call("POST", path, "try a rollout on", query={"dryRun": "All"}, body=body)


@pytest.fixture
async def server(world: World) -> Server:
    if isinstance(world.api, KubernetesApi):
        await _installed(kubeconfig_path())
    return Server(world)


def changed(path: tuple[Any, ...], value: Any) -> Any:
    spec = deepcopy(WHOLE)
    place: Any = spec
    for part in path[:-1]:
        place = place[part]
    place[path[-1]] = value
    return spec


@pytest.mark.parametrize("path", PATHS, ids=lambda path: ".".join(map(str, path)))
async def test_any_value_in_any_field_is_refused_in_words_or_read(server: Server, name: str, path: tuple[Any, ...]) -> None:
    places = [".".join(["spec", *map(str, path[:depth])]) for depth in range(1, len(path) + 1)]
    for value in WRONG:
        sentence = await refusal(server, name, changed(path, value))
        assert len(sentence) < 1300
        no_json = isinstance(value, float) and not math.isfinite(value)  # never leaves this machine
        named = any(place in sentence.replace("[0]", ".0") for place in places) or "drift.maxWeight" in sentence
        assert not sentence or no_json or named, f"{value!r:.50}: {sentence}"


async def refusal(server: Server, name: str, spec: Any) -> str:
    try:
        made = await server.try_on(name, spec)
        parse_spec(made["spec"])
    except (Invalid, InvalidSpec) as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    ("text", "where"), [('"weight":5', '"weight":1e400'), ('"weight":5', '"weight":05'), ('"quantile":0.95', '"quantile":NaN')]
)
def test_numbers_that_json_does_not_have_never_become_a_spec(text: str, where: str) -> None:
    document = json.dumps(WHOLE, separators=(",", ":"))
    assert text in document
    try:
        spec = json.loads(document.replace(text, where, 1))
    except ValueError:
        return
    with pytest.raises(InvalidSpec):
        parse_spec(spec)


@pytest.mark.parametrize(("odd", "sentence"), [("1fraud", NAME_NOT_LABEL), ("fraud.eu", NAME_NOT_LABEL), ("n" * 41, NAME_TOO_LONG)])
async def test_a_name_of_which_no_service_can_be_made_is_refused(server: Server, odd: str, sentence: str) -> None:
    with pytest.raises(Refused, match=re.escape(sentence)):
        check_name(odd)
    if server.is_real:
        with pytest.raises(Invalid, match=re.escape(sentence)):
            await server.try_on(odd, WHOLE)


@pytest.mark.parametrize("odd", ["Fraud", "frаud", "fraud\n", "fraud\u200b", "-fraud", "fraud/x", "..", "", "n" * 254])  # noqa: RUF001
async def test_a_name_that_only_looks_like_one_is_refused(api: KubeApi, namespace: str, odd: str) -> None:
    with pytest.raises(Invalid) as caught:
        await api.create(ROLLOUTS, namespace, bodies.rollout(odd))
    assert len(str(caught.value)) < 1300


# -- annotations, texts -----------------------------------------------------------------------------------------------------


async def test_annotations_of_200_kb_are_kept_and_larger_ones_refused(api: KubeApi, namespace: str, name: str) -> None:
    config_map = bodies.changed(bodies.config_map(name), annotations={"kanarya.dev/abort": "x" * 200_000})
    made = await api.create(CONFIGMAPS, namespace, config_map)
    assert len(made["metadata"]["annotations"]["kanarya.dev/abort"]) == 200_000
    with pytest.raises(Invalid, match="annotations"):
        await api.merge_patch(CONFIGMAPS, namespace, name, {"metadata": {"annotations": {"kanarya.dev/retry": "x" * 100_000}}})
    await api.delete(CONFIGMAPS, namespace, name)


async def test_texts_come_back_as_they_were_sent(api: KubeApi, namespace: str, name: str) -> None:
    made = await api.create(CONFIGMAPS, namespace, bodies.config_map(name, {"checkpoint.json": HIDDEN}))
    assert made["data"] == {"checkpoint.json": HIDDEN}
    assert objects.read_document(made, "checkpoint.json") is None
    await api.delete(CONFIGMAPS, namespace, name)


async def test_an_object_of_a_mebibyte_is_refused_and_not_sent_by_halves(api: KubeApi, namespace: str, name: str) -> None:
    with pytest.raises(Invalid):
        await api.create(CONFIGMAPS, namespace, bodies.config_map(name, {"evidence.json": MIB}))
    assert await api.get(CONFIGMAPS, namespace, name) is None


@pytest.mark.parametrize("message", [HIDDEN, MIB, "", "\n" * 5000, "ü" * 5000])
async def test_an_event_can_say_anything(api: KubeApi, namespace: str, name: str, message: str) -> None:
    rollout = bodies.changed(bodies.rollout(name), namespace=namespace, uid="8a5f1c9e-0000-0000-0000-000000000000")
    body = events.event(rollout, Notice("Warning", "RolledBack", message), 1_700_000_000.0, HIDDEN * 20)
    made = await api.create(EVENTS, namespace, body)
    assert len(made.get("note", "").encode()) <= 1000
    await api.delete(EVENTS, namespace, body["metadata"]["name"])


@pytest.mark.parametrize("image", ["model:v\n1", f"model:{HIDDEN}", "model:" + "v" * 5000, "x" * 100_000])
async def test_an_image_may_be_called_anything(api: KubeApi, namespace: str, name: str, image: str) -> None:
    body = bodies.deployment(name)
    body["spec"]["template"]["spec"]["containers"][0]["image"] = image
    try:
        made = await api.create(DEPLOYMENTS, namespace, body)
    except Invalid:
        return
    assert objects.identity("abc", made["spec"]["template"]).version.isprintable()
    await api.delete(DEPLOYMENTS, namespace, name)


# -- routes -----------------------------------------------------------------------------------------------------------------


def backends(*weights: Any) -> Any:
    tracks = ("fraud-stable", "fraud-candidate")
    return [
        {"group": "", "kind": "Service", "name": name, "port": 80, "weight": weight} for name, weight in zip(tracks, weights, strict=True)
    ]


ODD_ROUTES: dict[str, Any] = {
    "no rules": [],
    "rules that are null": None,
    "weights as text": [{"backendRefs": backends("90", "10")}],
    "weights below 0": [{"backendRefs": backends(90, -10)}],
    "weights beyond number": [{"backendRefs": backends(90, 10**30)}],
    "weights with a fraction": [{"backendRefs": backends(90, 0.5)}],
    "weights that are null": [{"backendRefs": backends(None, None)}],
    "no backends": [{"backendRefs": []}],
    "backends that are null": [{"backendRefs": None}],
    "a backend that is null": [{"backendRefs": [None]}],
    "a backend named twice": [{"backendRefs": [*backends(90, 10), *backends(0, 50)]}],
    "thousands of backends": [{"backendRefs": backends(90, 10) * 2000}],
    "two rules": [{"backendRefs": backends(90, 10)}, {"backendRefs": backends(0, 100)}],
}


@pytest.mark.parametrize("odd", ODD_ROUTES)
async def test_a_route_of_another_shape_is_refused_or_read_as_not_ours(api: KubeApi, namespace: str, name: str, odd: str) -> None:
    body = bodies.http_route(name)
    body["spec"]["rules"] = ODD_ROUTES[odd]
    try:
        made = await api.create(HTTPROUTES, namespace, body)
    except Invalid:
        return
    weight = objects.route_weight(plan(), made)
    assert weight is None or 0 <= weight <= objects.MOST_WEIGHT
    assert not objects.route_intact(plan(), made)
    assert not objects.route_accepted(made)
    await api.delete(HTTPROUTES, namespace, name)
