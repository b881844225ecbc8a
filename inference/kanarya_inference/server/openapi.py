"""The OpenAPI document, made from the types that requests and answers are read and written with."""

from __future__ import annotations

from typing import Any

import msgspec

from kanarya_inference.features import FeatureSchema
from kanarya_inference.features.schema import REFUSE
from kanarya_inference.server.faults import Change
from kanarya_inference.server.oip import PLATFORM
from kanarya_inference.server.outcomes import MAX_OUTCOMES
from kanarya_inference.server.predict import BatchAnswer, Prediction
from kanarya_inference.server.routes_ml import OutcomeBody, ReloadBody
from kanarya_inference.server.routes_v2 import IndexBody, LoadBody
from kanarya_inference.server.settings import ServerSettings
from kanarya_inference.server.tensors import DATATYPES, InferAnswer, InferRequest

_TYPES = (Prediction, BatchAnswer, OutcomeBody, ReloadBody, IndexBody, LoadBody, InferRequest, InferAnswer, Change)
_WORDS = {
    400: "not JSON, or not a valid request of the protocol",
    403: "models cannot be changed by clients: see --model-control",
    404: "unknown model or version",
    405: "another method is meant; Allow names it",
    408: "the body took too long",
    409: "the active version cannot be unloaded",
    413: "the body is too large",
    422: "JSON, but not what this path takes; the sentence says what to send",
    429: "the queue is full, or this client sends too much; see Retry-After",
    500: "the inference failed",
    501: "binary tensors are not implemented",
    503: "no model can answer: not ready, refused, or beyond its budget",
}
_INFERENCE = (400, 408, 413, 422, 429, 500, 503)
_CONTROL = (400, 403, 404, 408, 409, 413, 422, 503)


def openapi(settings: ServerSettings, schema: FeatureSchema | None) -> dict[str, Any]:
    """Return the document of a server with these settings, with the snapshot of the active model's schema if there is one."""
    _, components = msgspec.json.schema_components(_TYPES, ref_template="#/components/schemas/{name}")
    components["Snapshot"] = _snapshot(schema)
    components["Error"] = _object({"error": {"type": "string"}})
    components["Tensor"]["properties"]["datatype"]["enum"] = list(DATATYPES)
    components["OutcomeBody"]["properties"]["outcomes"]["maxItems"] = MAX_OUTCOMES
    model = f"/v2/models/{settings.name}"
    version = [{"name": "version", "in": "path", "required": True, "schema": {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,63}$"}}]
    infer = _operation("infer", "InferAnswer", (*_INFERENCE, 404, 501), "InferRequest", required=True)
    paths: dict[str, dict[str, Any]] = {
        "/ml/predict": {"post": _operation("score one snapshot", "Prediction", _INFERENCE, _object({"snapshot": _ref("Snapshot")}))},
        "/ml/predict/batch": {
            "post": _operation("score several snapshots, all or none", "BatchAnswer", _INFERENCE, _batch(settings.batch_rows))
        },
        "/ml/health": {"get": _operation("readiness", {"type": "object"}, (503,))},
        "/ml/health/live": {"get": _operation("liveness", {"type": "object"})},
        "/ml/metrics": {"get": {"summary": "Prometheus text format", "responses": {"200": _content("text/plain", {"type": "string"})}}},
        "/ml/model/info": {"get": _operation("the active model", {"type": "object"}, (503,))},
        "/ml/models": {"get": _operation("every version known here", {"type": "object"})},
        "/ml/outcomes": {"post": _operation("true labels of earlier predictions", _results(), (400, 408, 413, 422), "OutcomeBody")},
        "/ml/reload": {"post": _operation("make a version active", {"type": "object"}, _CONTROL, "ReloadBody", required=False)},
        "/v2": {"get": _operation("server metadata", {"type": "object"})},
        "/v2/health/live": {"get": _operation("liveness", _object({"live": {"type": "boolean"}}))},
        "/v2/health/ready": {"get": _operation("readiness", _object({"ready": {"type": "boolean"}}), (503,), like=True)},
        "/v2/models": {"get": _operation("names of the models", {"type": "object"})},
        model: {"get": _operation(f"metadata; platform {PLATFORM}", {"type": "object"}, (404, 503))},
        f"{model}/ready": {"get": _operation("readiness of the model", {"type": "object"}, (404, 503), like=True)},
        f"{model}/infer": {"post": infer},
        f"{model}/versions/{{version}}": {
            "get": _operation("metadata of a version", {"type": "object"}, (404, 503)),
            "parameters": version,
        },
        f"{model}/versions/{{version}}/ready": {
            "get": _operation("readiness of a version", {"type": "object"}, (404, 503), like=True),
            "parameters": version,
        },
        f"{model}/versions/{{version}}/infer": {"post": infer, "parameters": version},
        "/v2/repository/index": {
            "post": _operation("every version and its state", {"type": "array"}, (400, 408, 413, 422), "IndexBody", required=False)
        },
        f"/v2/repository/models/{settings.name}/load": {
            "post": _operation("make a version active", {"type": "object"}, _CONTROL, "LoadBody", required=False)
        },
        f"/v2/repository/models/{settings.name}/unload": {
            "post": _operation("take a version out of memory", {"type": "object"}, _CONTROL, "LoadBody", required=False)
        },
    }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Kanarya inference server",
            "version": "1",
            "description": "Predictions of one model, by its own paths (/ml) and by the Open Inference Protocol (/v2).",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {"schemas": components},
    }


def _snapshot(schema: FeatureSchema | None) -> dict[str, Any]:
    """Describe a snapshot: fields watched for drift may be null, keys that the schema does not name are ignored."""
    fields: dict[str, Any] = {}
    for column in schema.columns if schema is not None else ():
        if column.field is not None:
            kind = "string" if column.categories else "number"
            # Within float32, with room for the rounding of a writer.
            bounds = {} if column.categories else {"minimum": -3.4e38, "maximum": 3.4e38}
            fields[column.field] = {"type": kind if column.missing_rule == REFUSE else [kind, "null"], **bounds}
    return {"type": "object", "properties": fields, "required": list(fields)}


def _batch(rows: int) -> dict[str, Any]:
    return _object({"snapshots": {"type": "array", "items": _ref("Snapshot"), "minItems": 1, "maxItems": rows}})


def _results() -> dict[str, Any]:
    return _object({name: {"type": "integer"} for name in ("accepted", "unknown", "duplicate")})


def _operation(
    summary: str,
    answer: str | dict[str, Any],
    errors: tuple[int, ...] = (),
    body: str | dict[str, Any] | None = None,
    *,
    required: bool = True,
    like: bool = False,
) -> dict[str, Any]:
    """Describe one operation; with `like`, a 503 has the form of the answer."""
    responses = {"200": _content("application/json", _ref(answer), "the answer")}
    for status in errors:
        schema = {"type": "object"} if status == 503 and (like or summary == "readiness") else _ref("Error")
        responses[str(status)] = _content("application/json", schema, _WORDS[status])
    operation: dict[str, Any] = {"summary": summary, "responses": responses}
    if body is not None:
        operation["requestBody"] = {"required": required, "content": {"application/json": {"schema": _ref(body)}}}
    return operation


def _content(kind: str, schema: dict[str, Any], description: str = "the answer") -> dict[str, Any]:
    return {"description": description, "content": {kind: {"schema": schema}}}


def _ref(schema: str | dict[str, Any]) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{schema}"} if isinstance(schema, str) else schema


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}
