"""The pages that people look things up in say what the code says, and their links lead somewhere."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from kanarya.api.crd import custom_resource_definition
from kanarya.api.rollout import Analysis, parse_spec
from kanarya.api.status import CONDITION_TYPES
from kanarya.cluster.observe import NameTaken
from kanarya.controller.metrics import Metrics
from kanarya.decision.counts import Missing
from kanarya.decision.judge import limits_of
from kanarya.decision.state import Outcome

ROOT = Path(__file__).resolve().parents[3]
CODE = ROOT / "operator/kanarya"
REFERENCE = (ROOT / "docs/reference/events-and-conditions.md").read_text(encoding="utf-8")
METRICS_PAGE = (ROOT / "docs/reference/metrics.md").read_text(encoding="utf-8")
TROUBLESHOOTING = (ROOT / "docs/how-to/troubleshooting.md").read_text(encoding="utf-8")
NAMED = {word for code in re.findall(r"`([^`]+)`", REFERENCE) for word in re.findall(r"\w+", code)}

MODULES = [
    *(
        CODE / "decision" / f"{name}.py"
        for name in (
            "counts",
            "custom",
            "drift",
            "ending",
            "judge",
            "keeping",
            "lifecycle",
            "observing",
            "progress",
            "stages",
            "state",
            "threshold",
        )
    ),
    CODE / "controller/acceptance.py",
    CODE / "controller/reconcile.py",
    CODE / "controller/status.py",
]
WORD = re.compile(r"[A-Z][a-z]+(?:[A-Z][a-z]*)*")
NOT_REASONS = {
    *("Normal", "Warning"),  # types of Events
    *("True", "False"),  # what a condition can be
    *("Rollback", "Abort", "Report", "Ratio", "Live", "Observe", "Sequential"),  # what a spec may ask for
    *("Advance", "Soak", "Promote"),  # decisions, in evidence
    *("Decision", "VerdictChanged", "StepEntered", "WeightRestored", "StableSwitched", "RunEnded", "Checkpoint"),  # entries of evidence
}
SKIPPED = {"build", "node_modules", "dist"}


def documents() -> list[Path]:
    found = sorted(ROOT.rglob("*.md"))
    return [path for path in found if not any(part.startswith(".") or part in SKIPPED for part in path.relative_to(ROOT).parts[:-1])]


def constants(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and WORD.fullmatch(node.value):
            yield node.value


def formatted() -> tuple[set[str], set[str]]:
    """What the methods make of the word of each metric, and the parts they make them of."""
    words = {limits.word for limits in limits_of(Analysis()).values()}
    tree = ast.parse((CODE / "decision/threshold.py").read_text(encoding="utf-8"))
    texts = [node.values for node in ast.walk(tree) if isinstance(node, ast.JoinedStr)]
    ends = {str(part.value) for text in texts for part in text if isinstance(part, ast.Constant) and WORD.fullmatch(str(part.value))}
    assert words
    assert ends
    excusable = {f"{word}AboveStable" for word in words - {"Mismatches"}}
    return {word + end for word in words for end in ends} | excusable, words | ends | {"Stable", "Abort"}


def calls(name: str) -> Iterator[ast.Call]:
    for path in sorted(CODE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            called = node.func if isinstance(node, ast.Call) else None
            if isinstance(node, ast.Call) and (getattr(called, "attr", None) == name or getattr(called, "id", None) == name):
                yield node


def refusals() -> set[str]:
    """Classes whose name becomes a reason: what the reconciler catches in order to refuse."""
    (handler,) = [
        node
        for node in ast.walk(ast.parse((CODE / "controller/reconcile.py").read_text(encoding="utf-8")))
        if isinstance(node, ast.ExceptHandler) and isinstance(node.type, ast.Tuple) and "Refused" in ast.unparse(node.type).split(", ")[0]
    ]
    assert isinstance(handler.type, ast.Tuple)
    return {NameTaken.__name__, *(ast.unparse(name) for name in handler.type.elts)} - {"Refused"}


def reasons() -> set[str]:
    whole, parts = formatted()
    words = {word for path in MODULES for word in constants(path)} - NOT_REASONS - parts - set(CONDITION_TYPES)
    return words | whole | refusals() | {reason.value for reason in Missing} | set(get_args(Outcome))


def events() -> set[str]:
    found = set()
    for call in [*calls("notice"), *calls("Notice")]:
        reason = call.args[1]
        if isinstance(reason, ast.Constant):
            found.add(str(reason.value))
        elif ast.unparse(reason) == "outcome":
            found |= set(get_args(Outcome))
        else:
            assert ast.unparse(call) == "Notice(kind, reason, message)", f"what reason is {ast.unparse(call)}?"
    return found


def test_every_reason_is_in_the_reference() -> None:
    assert len(reasons()) > 60
    assert sorted(reasons() - NAMED) == []


def test_every_condition_type_is_in_the_reference() -> None:
    assert set(CONDITION_TYPES) <= NAMED


def test_the_list_of_events_is_that_of_the_code() -> None:
    (section,) = re.findall(r"^## Events$(.*)\Z", REFERENCE, flags=re.MULTILINE | re.DOTALL)
    listed = {word for row in re.findall(r"^\| (`[^|]*)\|", section, flags=re.MULTILINE) for word in re.findall(r"`(\w+)`", row)}
    assert listed == events()


def test_every_reason_that_asks_for_a_person_is_in_the_troubleshooting_page() -> None:
    named = set(re.findall(r"`(\w+)`", TROUBLESHOOTING))
    fine = re.compile(
        r"Good|.*Within(Slo|Limit)|AllGood|Valid|StableServes|No(Run|tJudged)|NeverReleased|Adopt(ed|ing)|Idle|Preflight|Advancing|Stepping"
        r"|Soaking|Promot(ed|ing)|Progressing|Unknown|RunStarted|Roll(ingBack|edBack)|Succeeded|Superseded|Aborted|Expired|RollbackResumed"
        r"|AbortRequested|ModeChanged|NewerRevision|BackToStable|Refused|Observ(ed|ing)|WouldPromote|Recording"
    )
    assert sorted(reason for reason in reasons() - named if not fine.fullmatch(reason)) == []


def test_the_metrics_are_those_of_the_code() -> None:
    families = [family for family in Metrics().registry.collect() if family.name.startswith("kanarya_")]
    exposed = {f"{family.name}_total" if family.type == "counter" else family.name: family.type for family in families}
    assert dict(re.findall(r"^\| `(kanarya_\w+)` \| (\w+) \|", METRICS_PAGE, flags=re.MULTILINE)) == exposed


def test_the_annotated_rollout_is_valid_and_has_every_field() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (text,) = [block for block in re.findall(r"```yaml\n(.*?)```", readme, flags=re.DOTALL) if "kind: MLModelRollout" in block]
    body = yaml.safe_load(text)
    parse_spec(body["spec"])
    (version,) = custom_resource_definition()["spec"]["versions"]
    schema = version["schema"]["openAPIV3Schema"]["properties"]["spec"]
    # Only a Rollback has the one; the other is absent by default, and a comment.
    absent = {"spec.analysis.missingData.noTraffic.afterSeconds", "spec.traffic.stickyHeader"}
    assert "# stickyHeader:" in text
    left = set(paths(schema, "spec")) - set(keys(body["spec"], "spec")) - absent
    # An installation refuses these unless it was told to allow them: an example that is to work everywhere leaves them out.
    assert sorted(path for path in left if not path.startswith("spec.analysis.metrics")) == []


def paths(schema: dict[str, Any], path: str) -> Iterator[str]:
    for name, field in schema.get("properties", {}).items():
        yield f"{path}.{name}"
        yield from paths(field.get("items", field), f"{path}.{name}")


def keys(value: Any, path: str) -> Iterator[str]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield f"{path}.{name}"
            yield from keys(inner, f"{path}.{name}")
    elif isinstance(value, list):
        for inner in value:
            yield from keys(inner, path)


@pytest.mark.parametrize("page", documents(), ids=lambda path: str(path.relative_to(ROOT)))
def test_relative_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        name, _, anchor = link.partition("#")
        if re.match(r"[a-z]+:", link):
            continue
        target = (page.parent / name).resolve() if name else page
        if not target.exists() or (anchor and target.suffix == ".md" and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}
