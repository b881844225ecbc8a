"""Stories made by chance: each seed tells another one."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

from kanarya.cluster.execute import FAULT_POINTS
from tests.world.service import merged
from tests.world.story import RELEASE, Event, Story
from tests.world.traffic import Model

RELEASE_AT = RELEASE.at
BAD = (
    Model(errors=0.15),
    Model(errors=0.5),
    Model(errors=1.0),
    Model(very_slow=0.3),
    Model(mismatches=0.5),
    Model(errors=0.2, very_slow=0.2),
    Model(pods="crash"),
    Model(pods="never ready"),
    Model(shifted=True),
)
GOOD = (Model(), Model(startup=0.5), Model(startup=6.0))
PLANS: tuple[dict[str, Any], ...] = (
    {},
    {},
    {"plan": {"steps": [{"weight": 0, "durationSeconds": 3}, {"weight": 50, "durationSeconds": 5}, {"weight": 100, "durationSeconds": 5}]}},
    {"plan": {"steps": [{"weight": 10, "durationSeconds": 5}, {"weight": 100, "durationSeconds": 5}], "soakSeconds": 6}},
    {"plan": {"steps": [{"weight": 100, "durationSeconds": 5}]}},
    {"analysis": {"intervalSeconds": 1}},
    {"analysis": {"intervalSeconds": 4}},
    {"replicas": 1},
    {"replicas": 3},
    {"traffic": {"mirrorPercent": 20}},
    {"traffic": {"fallback": "None"}},
    {"mode": "Observe"},
    {"analysis": {"drift": {"action": "Abort"}}},
)
Maker = Callable[[Random], tuple[str, dict[str, Any]]]


def _spell(random: Random) -> float:
    return round(random.choice((1.0, 3.0, 8.0, 20.0)) * random.uniform(0.7, 1.3), 1)


def _api(random: Random) -> tuple[str, dict[str, Any]]:
    kind = random.choice(("unavailable", "timeout", "lost", "late", "conflict", "forbidden", "stale", "slow"))
    scope = random.choice(
        ("all", "all", "reads", "writes", "httproutes", "configmaps", "deployments", "services", "mlmodelrollouts", "events")
    )
    return "api", {"kind": kind, "scope": scope, "share": random.choice((0.1, 0.5, 1.0)), "seconds": _spell(random)}


def _crash(random: Random) -> tuple[str, dict[str, Any]]:
    away = random.choice((0.0, 0.5, 3.0, 15.0))
    if random.random() < 0.5:
        return "crash", {"away": away, "point": random.choice(FAULT_POINTS)}
    return "crash", {"away": away, "calls": random.randint(1, 60)}


def _jump(random: Random) -> tuple[str, dict[str, Any]]:
    """A cluster's clocks are never set back by an hour: Prometheus would show nothing of use for as long."""
    whose = random.choice(("all", "operators"))
    steps = (-40.0, -8.0, -3.0, 3.0, 8.0, 40.0, 3600.0)
    return "jump", {"by": random.choice(steps if whose == "all" else (-3600.0, *steps)), "whose": whose}


def _owned(random: Random) -> str:
    return random.choice(("route", "route", "stable Service", "candidate Service", "stable", "settings", "checkpoint", "evidence"))


FAULTS: tuple[tuple[int, Maker], ...] = (
    (6, _api),
    (6, _crash),
    (1, lambda random: ("second", {"seconds": _spell(random), "oldest_goes": random.random() < 0.5})),
    (2, _jump),
    (2, lambda random: ("deaf", {"share": random.choice((0.3, 1.0)), "delay": random.choice((0.05, 5.0)), "seconds": _spell(random)})),
    (1, lambda random: ("repeat", {"seconds": _spell(random)})),
    (3, lambda random: ("trouble", {"kind": random.choice(("refused", "hanging", "failing", "empty", "slow")), "seconds": _spell(random)})),
    (2, lambda random: ("outage", {"seconds": _spell(random), "forget": random.random() < 0.5})),
    (3, lambda random: ("scrapes", {"kind": random.choice(("blind", "spoiling", "doubling")), "seconds": _spell(random)})),
    (1, lambda random: ("late", {"by": random.choice((1.5, 5.0)), "seconds": _spell(random)})),
    (1, lambda random: ("restart_router", {"index": random.randint(0, 1)})),
    (
        3,
        lambda random: (
            "sicken",
            {
                "track": random.choice(("stable", "candidate", "candidate")),
                "what": random.choice(("unready", "restarting", "crashing")),
                "seconds": _spell(random),
            },
        ),
    ),
    (2, lambda random: ("kill_pods", {"track": random.choice(("stable", "candidate"))})),
    (2, lambda random: ("rate", {"value": random.choice((0.0, 2.0, 300.0)), "seconds": _spell(random)})),
    (2, lambda random: ("degrade", {"version": "v2", "errors": random.choice((0.2, 1.0))})),
    (3, lambda random: ("set_weight", {"weight": random.choice((0, 5, 20, 50, 100))})),
    (4, lambda random: ("meddle", {"what": _owned(random)})),
    (4, lambda random: ("delete", {"what": _owned(random)})),
    (2, lambda random: ("strip", {"what": _owned(random)})),
    (1, lambda random: ("squat", {"what": random.choice(("route", "stable Service", "candidate Service", "settings"))})),
    (1, lambda random: ("scale_stable", {"replicas": random.choice((0, 1, 5))})),
    (1, lambda random: ("scale_target", {"replicas": random.choice((0, 1, 5))})),
    (2, lambda random: ("abort", {})),
    (1, lambda random: ("retry", {})),
    (2, lambda random: ("back", {})),
    (2, lambda random: ("release", {"version": "v3"})),
    (2, lambda random: ("pause", {"seconds": _spell(random)})),
    (2, lambda random: ("edit", {"spec": _spec_change(random), "seconds": _spell(random)})),
    (2, lambda random: ("delete_rollout", {"seconds": _spell(random)})),
    (2, lambda random: ("delete_target", {"seconds": _spell(random)})),
    (1, lambda random: ("unusable_target", {"seconds": _spell(random)})),
)


def _spec_change(random: Random) -> dict[str, Any]:
    return random.choice(
        (
            {"replicas": 1},
            {"replicas": 4},
            {"plan": {"steps": [{"weight": 30, "durationSeconds": 3}, {"weight": 100, "durationSeconds": 3}]}},
            {"plan": {"steps": [{"weight": 30}, {"weight": 5}]}},
            {"analysis": {"sourceName": "elsewhere"}},
            {"mode": "Observe"},
        )
    )


def _method(seed: int) -> str:
    """Choose how is judged, by a stream of its own: all else of a story does not depend on it."""
    return Random(f"{seed} method").choice(("Sequential", "Threshold"))


def story(seed: int) -> Story:
    """Tell the story of a seed."""
    random = Random(seed)
    models = {"v2": random.choice(BAD) if random.random() < 0.4 else random.choice(GOOD)}
    models["v3"] = random.choice(BAD) if random.random() < 0.3 else random.choice(GOOD)
    events = [RELEASE]
    weights = [weight for weight, _ in FAULTS]
    for _ in range(random.choice((0, 1, 1, 2, 2, 3, 4, 6))):
        (_, make), at = random.choices(FAULTS, weights)[0], random.uniform(0.0, 50.0)
        what, arguments = make(random)
        if (what, arguments.get("what")) == ("delete", "stable") and any(event.what == "delete_target" for event in events):
            continue  # the pod template of stable's revision was in the old target's ReplicaSet alone: nobody can build it again
        if what == "delete_target" and any(event.arguments.get("what") == "stable" for event in events):
            continue
        events.append(Event(0.0 if what == "squat" else round(at, 2), what, arguments))
    return Story(
        seed,
        tuple(sorted(events, key=lambda event: event.at)),
        spec=merged(random.choice(PLANS), {"analysis": {"method": _method(seed)}}),
        models=models,
        rate=random.choice((15.0, 30.0, 60.0)),
        scrape=random.choice((1.0, 2.0, 5.0)),
        routers=random.choice((1, 1, 1, 2)),
    )
