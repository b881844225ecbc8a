"""What one client, and all together, may ask for."""

from pathlib import Path

import pytest

from kanarya_inference.server.limits import KNOWN_CLIENTS, ClientRate
from kanarya_inference.server.settings import ServerSettings, parse_fallback
from tests.unit.inference.support import SNAPSHOT, pick, running

V = "v1.8.0"


def test_a_second_of_requests_at_once_and_then_the_rate() -> None:
    rate = ClientRate(20)
    assert [rate.wait(b"a", 100.0) for _ in range(20)] == [0.0] * 20
    assert rate.wait(b"a", 100.0) == pytest.approx(0.05)
    assert rate.wait(b"b", 100.0) == 0
    assert [rate.wait(b"a", 100.0 + 0.05 * step) for step in range(1, 6)] == [0.0] * 5
    assert rate.wait(b"a", 100.25) == pytest.approx(0.05)


def test_a_rate_below_one_a_second() -> None:
    rate = ClientRate(0.5)
    assert rate.wait(b"a", 0.0) == 0
    assert rate.wait(b"a", 0.5) == pytest.approx(1.5)
    assert rate.wait(b"a", 2.0) == 0


def test_long_run_rate_is_never_above_the_limit() -> None:
    rate = ClientRate(20)
    let_through = sum(rate.wait(b"a", step / 1000) == 0 for step in range(10_000))
    assert 20 * 10 <= let_through <= 20 * 10 + 20


def test_memory_of_clients_is_bounded() -> None:
    rate = ClientRate(20)
    for number in range(KNOWN_CLIENTS + 500):
        rate.wait(str(number).encode(), 0.0)
    assert len(rate._due) == KNOWN_CLIENTS


async def test_too_many_requests_of_one_address(baseline: Path) -> None:
    async with running(baseline, settings=ServerSettings(client_rate=5)) as server:
        answers = [await server.predict() for _ in range(30)]
        limited = [answer for answer in answers if answer[0] == 429]
        assert [answer[0] for answer in answers[:5]] == [200] * 5
        assert limited
        assert limited[0][2]["retry-after"] == "1"
        assert limited[0][2]["x-model-version"] == V
        assert limited[0][1] == {"error": "this client sends more requests than it may: try again after 1 s"}
        assert pick(await server.series(), "ml_predict_requests_total", model_version=V, status="limited") == len(limited)
        assert (await server.get("/ml/health"))[0] == 200


async def test_clients_by_a_header(baseline: Path) -> None:
    async with running(baseline, settings=ServerSettings(client_rate=0.01, client_header="X-Forwarded-For")) as server:

        async def of(*forwarded: str) -> int:
            headers = [("x-forwarded-for", value) for value in forwarded]
            async with server.client.post(f"{server.url}/ml/predict", json={"snapshot": SNAPSHOT}, headers=headers) as response:
                return response.status

        assert [await of("10.0.0.1"), await of("10.0.0.1")] == [200, 429]
        assert await of("10.0.0.2") == 200
        assert await of("6.6.6.6, 10.0.0.1") == 429  # what a client writes in front is not what the proxy saw
        assert await of("6.6.6.6", "10.0.0.1") == 429
        assert [await of(), await of()] == [200, 429]


async def test_a_header_is_not_trusted_unless_asked_for(baseline: Path) -> None:
    async with running(baseline, settings=ServerSettings(client_rate=0.01)) as server:
        statuses = []
        for number in range(2):
            headers = {"x-forwarded-for": f"10.0.0.{number}"}
            async with server.client.post(f"{server.url}/ml/predict", json={"snapshot": SNAPSHOT}, headers=headers) as response:
                statuses.append(response.status)
        assert statuses == [200, 429]


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "a/b"}, {"name": ""}, {"loaded_models": 0}, {"budget_milliseconds": -1}, {"budget_milliseconds": float("nan")},
        {"queue": -1}, {"client_rate": float("inf")}, {"batch_rows": 0}, {"outcome_ids": 0}, {"outcome_seconds": 0},
        {"outcome_window": 1}, {"fallback": 1.5}, {"fallback": float("nan")},
    ],
    ids=str,
)  # fmt: skip
def test_senseless_settings_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"give|name has|score from"):
        ServerSettings(**changes)  # type: ignore[arg-type]


def test_fallbacks() -> None:
    assert [parse_fallback(text) for text in ("error", "previous", "constant:0.5", "constant:0")] == ["error", "previous", 0.5, 0.0]
    for text in ("", "constant", "constant:", "constant:2", "constant:nan", "0.5", "other:0.5"):
        with pytest.raises(ValueError, match="is no fallback"):
            parse_fallback(text)
