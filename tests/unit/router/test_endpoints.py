from __future__ import annotations

from random import Random
from typing import Any

from kanarya_inference.router.endpoints import LINGER_SECONDS, REST_SECONDS, Pool, addresses


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def piece(*endpoints: Any, family: str = "IPv4", ports: Any = ({"name": "http", "port": 8080},)) -> dict[str, Any]:
    return {"addressType": family, "ports": list(ports), "endpoints": list(endpoints)}


def pod(host: str, **conditions: bool) -> dict[str, Any]:
    return {"addresses": [host], "conditions": conditions}


def test_ready_pods_of_all_slices_once() -> None:
    slices = [piece(pod("10.0.0.1", ready=True), pod("10.0.0.2", ready=False)), piece(pod("10.0.0.1", ready=True), pod("10.0.0.3"))]
    assert addresses(slices) == [("10.0.0.1", 8080), ("10.0.0.3", 8080)]


def test_terminating_pods_serve_when_nothing_else_does() -> None:
    leaving = pod("10.0.0.2", ready=False, serving=True, terminating=True)
    assert addresses([piece(leaving, pod("10.0.0.3", ready=False, serving=False))]) == [("10.0.0.2", 8080)]
    assert addresses([piece(leaving, pod("10.0.0.4", ready=True))]) == [("10.0.0.4", 8080)]


def test_port_named_http_else_the_first() -> None:
    metrics, http = {"name": "metrics", "port": 1}, {"name": "http", "port": 2}
    assert addresses([piece(pod("10.0.0.1"), ports=[metrics, http])]) == [("10.0.0.1", 2)]
    assert addresses([piece(pod("10.0.0.1"), ports=[metrics])]) == [("10.0.0.1", 1)]
    assert addresses([piece(pod("10.0.0.1"), ports=[])]) == []


def test_dual_stack_pods_are_there_once() -> None:
    six = piece(pod("fd00::1"), family="IPv6")
    assert addresses([six, piece(pod("10.0.0.1"))]) == [("10.0.0.1", 8080)]
    assert addresses([six]) == [("fd00::1", 8080)]
    assert addresses([piece(pod("pod.example"), family="FQDN")]) == []
    assert addresses([{"addressType": "IPv4", "ports": None, "endpoints": None}]) == []


def test_counts_outlive_an_update() -> None:
    pool = Pool(Random(1), Clock())
    pool.update([piece(pod("10.0.0.1"))])
    known = pool.pick()
    assert known is not None
    known.outstanding = 3
    pool.update([piece(pod("10.0.0.1"), pod("10.0.0.2"))])
    assert all(pool.pick() is not known for _ in range(20))
    pool.update([])
    assert pool.pick() is None


def named(host: str, pod: str) -> dict[str, Any]:
    return {"addresses": [host], "conditions": {"ready": True}, "targetRef": {"kind": "Pod", "name": pod}}


def test_the_last_endpoints_of_a_revision_are_tried_for_a_while_when_all_vanish_at_once() -> None:
    clock = Clock()
    pool = Pool(Random(1), clock)
    pool.revision = "5f6c8d"
    pool.update([])
    assert not pool.ready
    pool.update([piece(named("10.0.0.1", "fraud-5f6c8d-x2x4z"))])
    known = pool.pick()
    assert known is not None
    clock.now += 100
    for _ in range(4):
        pool.update([])
        assert pool.ready
        assert pool.pick() is known
        clock.now += LINGER_SECONDS / 4
    assert not pool.ready
    assert pool.pick() is None
    pool.update([piece(named("10.0.0.1", "fraud-5f6c8d-x2x4z"))])
    pool.update([])
    clock.now += LINGER_SECONDS - 1
    pool.update([piece(named("10.0.0.2", "fraud-5f6c8d-abcde"))])
    clock.now += 2
    picked = pool.pick()
    assert picked is not None
    assert picked.host == "10.0.0.2"


def test_endpoints_of_another_revision_vanish_at_once() -> None:
    pool = Pool(Random(1), Clock())
    pool.revision = "5f6c8d"
    pool.update([piece(named("10.0.0.1", "fraud-5f6c8d-x2x4z"))])
    pool.update([])
    assert pool.ready
    pool.revision = "7d4b9c"
    assert not pool.ready
    pool.revision = None
    assert not pool.ready


def test_avoided_and_resting_endpoints() -> None:
    clock = Clock()
    pool = Pool(Random(1), clock)
    pool.update([piece(pod("10.0.0.1"))])
    only = pool.pick()
    assert only is not None
    assert pool.pick(only) is None
    pool.rest(only)
    assert pool.pick() is only  # better than nothing
    pool.update([piece(pod("10.0.0.1"), pod("10.0.0.2"), pod("10.0.0.3"))])
    assert all(pool.pick() is not only for _ in range(30))
    clock.now += REST_SECONDS
    assert any(pool.pick() is only for _ in range(30))


def test_load_is_spread() -> None:
    pool = Pool(Random(1), Clock())
    pool.update([piece(*(pod(f"10.0.0.{number}") for number in range(5)))])
    picked = [pool.pick() for _ in range(500)]
    for endpoint in picked:
        assert endpoint is not None
        endpoint.outstanding += 1
    counts = {endpoint.host: endpoint.outstanding for endpoint in picked if endpoint}
    assert len(counts) == 5
