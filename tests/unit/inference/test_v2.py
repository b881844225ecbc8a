"""The Open Inference Protocol over real HTTP."""

import io
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from kanarya_inference.server.settings import ServerSettings
from tests.unit.inference.making import rewritten
from tests.unit.inference.support import SNAPSHOT, Running, pick, running

pytestmark = pytest.mark.slow

V = "v1.8.0"
ROW = [SNAPSHOT["ts"], 101.25, 3.2, 11, 48.5, 1]
INFER = "/v2/models/model/infer"
INTS = ("8", "16", "32", "64")
SETTINGS = ServerSettings(client_rate=0, batch_rows=50)


@pytest.fixture
async def server(baseline: Path) -> AsyncIterator[Running]:
    async with running(baseline, settings=SETTINGS) as found:
        yield found


def matrix(*rows: list[Any], **changes: Any) -> dict[str, Any]:
    tensor = {"name": "features", "datatype": "FP32", "shape": [len(rows), 6], "data": [list(row) for row in rows]}
    return {"inputs": [{**tensor, **changes}]}


def fields(**changes: Any) -> dict[str, Any]:
    columns = {"ts": [1.0, 2.0], "mid": [101.25, 90.0], "spreadBp": [3.2, 9.0], "vol1m": [11, 30], "rsi14": [48.5, None], **changes}
    return {"inputs": [{"name": name, "datatype": "FP64", "shape": [len(data)], "data": data} for name, data in columns.items()]}


def output(answer: Any, name: str) -> Any:
    (found,) = [tensor["data"] for tensor in answer["outputs"] if tensor["name"] == name]
    return found


async def test_server_and_model_say_what_they_are(server: Running) -> None:
    status, about = await server.get("/v2")
    assert (status, about["name"], about["extensions"]) == (200, "kanarya", ["model_repository"])
    assert await server.get("/v2/health/live") == (200, {"live": True})
    assert await server.get("/v2/health/ready") == (200, {"ready": True})
    assert await server.get("/v2/models") == (200, {"models": ["model"]})
    for path in ("/v2/models/model", f"/v2/models/model/versions/{V}"):
        assert await server.get(f"{path}/ready") == (200, {"name": "model", "ready": True})
        status, found = await server.get(path)
        assert (status, found["name"], found["versions"], found["platform"]) == (200, "model", [V], "onnx_onnxv1")
        assert found["inputs"][0]["shape"] == [-1, 6]
        assert [tensor["name"] for tensor in found["outputs"]] == ["score", "label", "probabilities"]
    assert await server.post("/v2/repository/index") == (200, [{"name": "model", "version": V, "state": "READY", "reason": ""}])


async def test_every_form_of_the_same_row_has_the_score_of_predict(server: Running) -> None:
    _, expected, _ = await server.predict()
    forms = [
        matrix(ROW),
        matrix(ROW, data=ROW),
        matrix(ROW, datatype="FP64"),
        fields(**{field: [SNAPSHOT[field]] for field in SNAPSHOT}),
    ]
    for path in (INFER, f"/v2/models/model/versions/{V}/infer"):
        for form in forms:
            status, answer = await server.post(path, {"id": "a-1", **form})
            assert status == 200, answer
            assert (answer["id"], answer["model_name"], answer["model_version"]) == ("a-1", "model", V)
            assert output(answer, "score") == [expected["score"]]
            assert output(answer, "label") == [expected["label"]]
            assert output(answer, "probabilities") == pytest.approx([1 - expected["score"], expected["score"]])
            assert len(answer["parameters"]["prediction_ids"]) == 1


async def test_rows_fields_and_null(server: Running) -> None:
    status, answer = await server.post(INFER, fields())
    assert status == 200
    singles = [{"ts": 1.0, "mid": 101.25, "spreadBp": 3.2, "vol1m": 11, "rsi14": 48.5}]
    singles.append({"ts": 2.0, "mid": 90.0, "spreadBp": 9.0, "vol1m": 30, "rsi14": None})  # type: ignore[dict-item]
    assert output(answer, "score") == pytest.approx([(await server.predict({"snapshot": s}))[1]["score"] for s in singles], abs=1e-7)
    assert "id" not in answer
    series = await server.series()
    assert pick(series, "ml_feature_bin_total", model_version=V, feature="rsi14", bin="missing") == 2
    assert pick(series, "ml_feature_extractions_total", model_version=V) == 4


async def test_drift_is_counted_alike_for_every_form(server: Running) -> None:
    async def bins() -> dict[frozenset[tuple[str, str]], float]:
        return {labels: value for (name, labels), value in (await server.series()).items() if name == "ml_feature_bin_total"}

    start = await bins()
    await server.predict()
    one = await bins()
    await server.post(INFER, matrix(ROW))
    two = await bins()
    assert {key: one[key] - start[key] for key in one} == {key: two[key] - one[key] for key in one}


async def test_only_the_outputs_asked_for(server: Running) -> None:
    status, answer = await server.post(INFER, {**matrix(ROW), "outputs": [{"name": "label"}]})
    assert (status, [tensor["name"] for tensor in answer["outputs"]]) == (200, ["label"])
    assert answer["outputs"][0] == {"name": "label", "shape": [1], "datatype": "INT64", "data": output(answer, "label")}


async def test_every_numeric_datatype(server: Running) -> None:
    for datatype in (kind + bits for kind, sizes in {"FP": ("16", "32", "64"), "INT": INTS, "UINT": INTS}.items() for bits in sizes):
        status, answer = await server.post(INFER, matrix([1, 100, 3, 11, 50, 1], datatype=datatype))
        assert status == 200, answer
        tensor = {"name": "features", "datatype": datatype, "shape": [1, 6], "data": [1, 100, 3, 11, 50, "1"]}
        status, answer = await server.post(INFER, {"inputs": [tensor]})
        assert (status, answer) == (400, {"error": f"input features: a value is no {datatype}"})


async def test_booleans_are_zero_and_one(server: Running) -> None:
    truths = [True, False, True, True, False, True]
    _, expected = await server.post(INFER, matrix([int(truth) for truth in truths]))
    _, answer = await server.post(INFER, matrix(truths, datatype="BOOL"))
    assert output(answer, "score") == output(expected, "score")


WRONG: list[tuple[Any, str]] = [
    (b"", "not JSON"),
    (b"[1]", "no infer request"),
    (b'{"inputs":' + b"[" * 40_000, "infer request"),
    (b"{", "not JSON"),
    ({"inputs": []}, "inputs: send one tensor features"),
    ({"inputs": {}}, "`$.inputs`"),
    ({"inputs": [{"name": "features"}]}, "missing required field `shape`"),
    (matrix(ROW, name="other"), "input other: unknown"),
    (matrix(ROW, shape=[1, 5]), "shape is [rows, 6]"),
    (matrix(ROW, shape=[2, 6]), "shape [2, 6] has 12 values, data has 6"),
    (matrix(ROW, shape=[-1, 6]), "sizes from 0 to"),
    (matrix(ROW, shape=[10**30, 6]), "sizes from 0 to"),
    (b'{"inputs":[{"name":"features","datatype":"FP32","data":[],"shape":[' + b"9" * 5000 + b",6]}]}", "out of range"),
    (matrix(ROW, shape=[10**6, 6]), "there are 1000000 rows: send 1 to 50"),
    (matrix(ROW, datatype="FP8"), "datatype 'FP8' is unknown"),
    (matrix(ROW, datatype="INT8"), "a value is no INT8"),
    (matrix(ROW, datatype="BYTES"), "holds no numbers"),
    (matrix([1e300] * 6, datatype="FP64"), "beyond"),
    (matrix([None] * 6), "null is allowed only"),
    (matrix([10**400] * 6), "a value is no FP32"),
    (matrix(ROW, data=[[1, [2]], [3]]), "nested everywhere alike"),
    (matrix(ROW, data=[[1, 2], [3, 4, 5, 6]]), "nested everywhere alike"),
    (matrix(*[ROW] * 51), "send 1 to 50"),
    (fields(mid=[1.0]), "different numbers of rows"),
    (fields(mid=["a", "b"]), "a value is no FP64"),
    (fields(ts=[None, 1.0]), "row[0]: snapshot.ts is null"),
    ({"inputs": [*fields()["inputs"], fields()["inputs"][0]]}, "two of this name"),
    ({"inputs": fields()["inputs"][:-1]}, "rsi14 is missing"),
    ({**matrix(ROW), "outputs": [{"name": "risk"}]}, "there is no output 'risk'"),
    ({**matrix(ROW), "id": 7}, "`$.id`"),
]


async def test_a_bad_request_is_400_with_a_sentence(server: Running) -> None:
    for body, sentence in WRONG:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        async with server.client.post(server.url + INFER, data=io.BytesIO(content)) as response:
            answer = await response.json()
            assert response.status == 400, (sentence, answer)
        assert set(answer) == {"error"}
        assert sentence in answer["error"]
    assert pick(await server.series(), "ml_predict_requests_total", model_version=V, status="invalid") == len(WRONG)


async def test_statuses(server: Running) -> None:
    assert (await server.get("/v2/models/other"))[0] == 404
    assert (await server.post("/v2/models/other/infer", matrix(ROW)))[0] == 404
    assert (await server.get("/v2/models/model/versions/v9"))[0] == 404
    assert (await server.get("/v2/models/model/versions/v9/ready"))[0] == 404
    assert (await server.post("/v2/models/model/versions/v9/infer", matrix(ROW)))[0] == 404
    assert (await server.get("/v2/models/model/stats"))[0] == 404
    assert (await server.get("/v2/models/model/infer"))[0] == 405
    assert (await server.post("/v2/models/model/versions/..%2f..%2fetc/infer", matrix(ROW)))[0] == 404
    status, answer = await server.post(INFER, matrix(ROW), Inference_Header_Content_Length="10")
    assert (status, "binary tensors" in answer["error"]) == (501, True)
    for call in ("load", "unload"):
        status, answer = await server.post(f"/v2/repository/models/model/{call}")
        assert (status, "--model-control" in answer["error"]) == (403, True)


async def test_without_a_model(baseline: Path) -> None:
    async with running(baseline, load=False) as server:
        assert await server.get("/v2/health/ready") == (503, {"ready": False})
        assert await server.get("/v2/models") == (200, {"models": []})
        assert await server.get("/v2/models/model/ready") == (503, {"name": "model", "ready": False})
        for status, answer in (await server.get("/v2/models/model"), await server.post(INFER, matrix(ROW))):
            assert (status, set(answer)) == (503, {"error"})


async def test_versions_by_the_protocol(baseline: Path, tmp_path: Path) -> None:
    repository = tmp_path / "models"
    for name in ("v2", "v3"):
        rewritten(baseline, repository / name, version=name)
    settings = ServerSettings(client_rate=0, repository=repository, model_control=True)
    async with running(baseline, settings=settings) as server:
        status, answer = await server.post("/v2/models/model/versions/v2/infer", matrix(ROW))
        assert (status, answer["model_version"]) == (200, "v2")
        _, index = await server.post("/v2/repository/index", {"ready": True})
        assert [entry["version"] for entry in index] == [V, "v2"]
        _, index = await server.post("/v2/repository/index")
        assert [(entry["version"], entry["state"]) for entry in index] == [(V, "READY"), ("v2", "READY"), ("v3", "UNAVAILABLE")]
        assert await server.post("/v2/repository/models/model/load", {"parameters": {"version": "v3"}}) == (200, {})
        assert (await server.post(INFER, matrix(ROW)))[1]["model_version"] == "v3"
        assert await server.post("/v2/repository/models/model/unload", {"parameters": {"version": "v2"}}) == (200, {})
        assert (await server.post("/v2/repository/models/model/unload"))[0] == 409
        assert (await server.get("/v2/models/model/versions/v2/ready"))[0] == 503
