"""What the API server refuses, the operator refuses too, and both say the same."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from kanarya.api.rollout import InvalidSpec, parse_spec
from kanarya.cluster.port import ROLLOUTS, Invalid
from tests.contract.crd.cases import BOUNDS, RULES, Case, body
from tests.contract.crd.conftest import DEFINITION, Server


def messages(schema: dict[str, Any]) -> Iterator[str]:
    """Give the sentences of all rules between fields."""
    yield from (entry["message"] for entry in schema.get("x-kubernetes-validations", []))
    for child in schema.get("properties", {}).values():
        yield from messages(child)
    if "items" in schema:
        yield from messages(schema["items"])


def test_every_rule_has_a_case_that_breaks_it() -> None:
    schema = DEFINITION["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    assert {case.says for case in RULES} == set(messages(schema))


@pytest.mark.parametrize("case", [*RULES, *BOUNDS], ids=lambda case: case.id)
async def test_the_api_server_refuses(server: Server, name: str, case: Case) -> None:
    bad = body(case.name or name, **case.spec)
    write = server.api.create(ROLLOUTS, server.namespace, bad)
    if case.update:
        await write
        write = server.api.merge_patch(ROLLOUTS, server.namespace, name, {"spec": case.update})

    with pytest.raises(Invalid) as caught:
        await write

    assert case.says in str(caught.value)
    assert len(str(caught.value)) < 1200


@pytest.mark.parametrize("case", [case for case in (*RULES, *BOUNDS) if case.spec], ids=lambda case: case.id)
def test_the_operator_refuses_for_the_same_reason(case: Case) -> None:
    with pytest.raises(InvalidSpec) as caught:
        parse_spec(body("any", **case.spec)["spec"])

    assert case.says in str(caught.value)
    assert len(str(caught.value)) < 1200
