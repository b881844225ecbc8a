"""Events: said once, within the API server's bounds, and never worth failing for."""

from __future__ import annotations

from typing import Any

import pytest

from kanarya.cluster.events import NOTE_BYTES, event, micro_timestamp, post, timestamp
from kanarya.cluster.fake import FakeApi
from kanarya.cluster.port import EVENTS, ApiError, Forbidden, Object, Unavailable
from kanarya.decision.actions import Notice

ROLLOUT: Object = {
    "apiVersion": "kanarya.dev/v1alpha1",
    "kind": "MLModelRollout",
    "metadata": {"name": "fraud", "namespace": "shop", "uid": "u1", "resourceVersion": "5"},
}
NOTICE = Notice("Warning", "RollingBack", "run bbb-1: ErrorsAboveAbort")


def test_times_are_utc() -> None:
    assert timestamp(1_700_000_000.9) == "2023-11-14T22:13:20Z"
    assert micro_timestamp(1_700_000_000.25) == "2023-11-14T22:13:20.250000Z"


def test_what_an_event_says() -> None:
    body = event(ROLLOUT, NOTICE, 1_700_000_000.0, "pod-1")
    assert (body["apiVersion"], body["kind"]) == ("events.k8s.io/v1", "Event")
    assert (body["type"], body["reason"], body["action"], body["note"]) == ("Warning", "RollingBack", "RollingBack", NOTICE.message)
    assert (body["reportingController"], body["reportingInstance"]) == ("kanarya.dev/operator", "pod-1")
    assert body["regarding"] == {
        "apiVersion": "kanarya.dev/v1alpha1",
        "kind": "MLModelRollout",
        "name": "fraud",
        "namespace": "shop",
        "uid": "u1",
        "resourceVersion": "5",
    }


def test_long_sentences_and_names_are_cut_to_what_the_api_server_takes() -> None:
    long: dict[str, Any] = {**ROLLOUT, "metadata": {**ROLLOUT["metadata"], "name": "n" * 40}}
    body = event(long, Notice("Normal", "Adopted", "ü" * 5000), 0.0, "x" + "ü" * 300)
    assert len(body["note"].encode()) == NOTE_BYTES <= 1024
    assert body["reportingInstance"] == "x" + "ü" * 63  # half a character is none
    assert len(body["metadata"]["name"]) <= 63


def name(now: float, notice: Notice = NOTICE) -> str:
    return str(event(ROLLOUT, notice, now, "i")["metadata"]["name"])


def test_the_same_words_in_the_same_minute_are_one_event() -> None:
    assert name(600.0) == name(659.9)
    assert name(600.0) != name(660.0)
    assert name(600.0) != name(600.0, Notice("Warning", "RollingBack", "run bbb-2"))
    assert name(600.0) != name(600.0, Notice("Warning", "Other", NOTICE.message))


async def test_a_repeated_event_is_not_posted_again() -> None:
    api = FakeApi()
    for now in (600.0, 610.0, 700.0):
        await post(api, ROLLOUT, NOTICE, now, "i")
    assert len(await api.list(EVENTS, "shop")) == 2


@pytest.mark.parametrize("error", [Unavailable("away"), Forbidden("no")])
async def test_an_event_that_cannot_be_posted_changes_nothing(error: ApiError) -> None:
    api = FakeApi()

    async def refuse(_: object) -> None:
        raise error

    api.before = refuse
    await post(api, ROLLOUT, NOTICE, 0.0, "i")
