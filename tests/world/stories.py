"""Stories that broke a promise once, shortened, each with what it found. They do not depend on how chance tells stories."""

from __future__ import annotations

from tests.world.clock_stories import CLOCKS
from tests.world.story import COPIES_FIRST, LONG, RELEASE, Event, Story, released
from tests.world.traffic import Model

BROKEN_FIRST = Story(
    1,
    (Event(0.01, "release", {"version": "v2"}), Event(30, "release", {"version": "v3"})),
    models={"v2": Model(pods="never ready")},
)
"""The very first revision never gets ready, and its owner releases another one."""

REFUSED = released(
    30668, Event(24, "unusable_target", {"seconds": 30.0}), Event(26, "set_weight", {"weight": 20}), models={"v2": Model(errors=0.3)}
)
"""The target's template cannot be used, no run is on, and somebody sets a weight."""

MENDING = Story(
    510004404,
    (
        Event(0.09, "delete_target", {"seconds": 19.1}),
        RELEASE,
        Event(37.68, "release", {"version": "v3"}),
    ),
    spec={"analysis": {"method": "Sequential"}},
    models={"v2": Model(errors=0.5), "v3": Model(startup=6.0)},
    rate=60,
    scrape=2,
)
"""A revision that fails half of its requests is adopted as stable, and its owner releases one that mends it."""

PATCHY = released(
    800100140,
    Event(14.47, "trouble", {"kind": "slow", "seconds": 6.0}),
    spec={"analysis": {"method": "Sequential"}},
    models={"v2": Model(errors=0.2)},
    rate=60,
    scrape=2,
)
"""The mirror's breaker lets so few copies through that they prove no breach of abort within half a minute."""

STORIES: dict[str, Story] = {
    **CLOCKS,
    "after a foreign rise was taken back, the weight rose on samples from before it": released(
        1, Event(44, "set_weight", {"weight": 100}), spec={"plan": LONG}, rate=60, scrape=5
    ),
    "after a rise that a crash left half done, the weight rose again at once and without earning it": released(
        1, Event(33, "crash", {"away": 15.0, "point": "after-raise"})
    ),
    "an Event about the checkpoint was posted before the weight went down": released(
        258, Event(29, "meddle", {"what": "checkpoint"}), Event(29.1, "crash", {"away": 2.0, "calls": 1}), rate=60, scrape=1
    ),
    "a stable Deployment without its labels blocked the run for ever, with weight and without a word": released(
        311, Event(34.88, "strip", {"what": "stable"}), rate=60, scrape=1
    ),
    "a ConfigMap of somebody else with the name of the router's settings was written over": released(
        1, Event(0, "squat", {"what": "settings"})
    ),
    "a rise whose answer was lost is taken back, and then only repeated on newer samples": released(
        1677, Event(30, "api", {"kind": "lost", "scope": "httproutes", "share": 1.0, "seconds": 3.0}), rate=60
    ),
    "a route that was deleted while no operator ran left nobody to say what weight there had been": Story(
        500049,
        (Event(10.24, "crash", {"away": 15.0, "point": "after-raise"}), RELEASE, Event(38.06, "delete", {"what": "route"})),
        spec={"plan": COPIES_FIRST},
        models={"v2": Model(startup=0.5)},
        rate=60,
    ),
    "a newer revision's pods got live requests of routers that still followed the last run": released(
        501342,
        Event(42.63, "api", {"kind": "timeout", "scope": "writes", "share": 1.0, "seconds": 17.1}),
        Event(44.28, "release", {"version": "v3"}),
        models={"v2": Model(startup=6.0), "v3": Model(errors=0.15)},
    ),
    "a stable that lost its labels while the rollout was away was passed over for a candidate that nobody had judged": released(
        902391, Event(31.55, "delete_rollout", {"seconds": 10.1}), Event(37.61, "strip", {"what": "stable"}), scrape=1
    ),
    "a run that ended while its evidence could not be written lost its last entries to the next run": released(
        1200183,
        Event(31.27, "api", {"kind": "conflict", "scope": "all", "share": 0.1, "seconds": 9.6}),
        Event(32.34, "release", {"version": "v3"}),
        models={"v2": Model(errors=0.15), "v3": Model(startup=0.5)},
    ),
    "a weight rose on a sample taken between the decision to take a foreign rise back and its write": Story(
        8004106,
        (
            Event(1.89, "release", {"version": "v3"}),
            RELEASE,
            Event(16.14, "api", {"kind": "conflict", "scope": "deployments", "share": 1.0, "seconds": 0.8}),
            Event(20.66, "set_weight", {"weight": 100}),
        ),
        spec={"analysis": {"intervalSeconds": 4}},
        models={"v2": Model(startup=0.5), "v3": Model(startup=0.5)},
        scrape=5,
    ),
    "somebody who raised the weight again and again kept a failing candidate from being judged": released(
        1,
        *(Event(28.0 + second, "set_weight", {"weight": 100}) for second in range(30)),
        Event(30.0, "degrade", {"version": "v2", "errors": 1.0}),
        spec={"plan": {"steps": [{"weight": 20, "durationSeconds": 60}, {"weight": 100, "durationSeconds": 6}]}},
    ),
    "drift could not be read, which keeps no weight from rising": released(
        8004392,
        Event(2.3, "kill_pods", {"track": "stable"}),
        Event(8.58, "repeat", {"seconds": 6.1}),
        Event(34.18, "trouble", {"kind": "refused", "seconds": 1.0}),
        spec={"traffic": {"fallback": "None"}},
        models={"v2": Model(startup=0.5)},
        scrape=5,
        routers=2,
    ),
    "a run that begins with a step of weight 0 does not answer for the run before it": released(
        8009798,
        Event(15, "scale_stable", {"replicas": 1}),
        Event(23.25, "deaf", {"share": 0.3, "delay": 5.0, "seconds": 2.5}),
        Event(34.28, "kill_pods", {"track": "candidate"}),
        spec={"plan": COPIES_FIRST},
        models={"v2": Model(startup=6.0)},
        rate=60,
        routers=2,
    ),
    "a router that ended while its samples were no numbers keeps nobody from going on": released(
        8009447,
        Event(24.44, "scrapes", {"kind": "spoiling", "seconds": 17.0}),
        Event(34.6, "restart_router", {"index": 1}),
        models={"v2": Model(startup=6.0)},
        scrape=5,
        routers=2,
    ),
    "a retry that was asked for during the run begins another one at its end": released(
        8002385,
        Event(11.13, "delete_rollout", {"seconds": 3.1}),
        Event(38.72, "degrade", {"version": "v2", "errors": 1.0}),
        Event(43.69, "retry", {}),
        spec={"replicas": 1},
        models={"v2": Model(startup=6.0)},
        rate=15,
        scrape=5,
    ),
    "an operator whose calls hang begins the run that was asked for once they return": released(
        8003390,
        Event(11.6, "trouble", {"kind": "refused", "seconds": 22.6}),
        Event(18.11, "delete_rollout", {"seconds": 3.2}),
        Event(19.76, "rate", {"value": 300.0, "seconds": 0.9}),
        Event(24.55, "strip", {"what": "candidate Service"}),
        Event(38.57, "sicken", {"track": "candidate", "what": "restarting", "seconds": 2.9}),
        Event(38.96, "api", {"kind": "timeout", "scope": "reads", "share": 1.0, "seconds": 7.2}),
        spec={"plan": {"steps": [{"weight": 100, "durationSeconds": 5}]}},
        models={"v2": Model(startup=6.0)},
        rate=15,
        scrape=5,
    ),
    "after an outage of stable, whose failures came in bursts, a failing candidate is taken back later, and is taken back": released(
        9100558,
        Event(14.44, "delete", {"what": "stable"}),
        Event(23.37, "retry", {}),
        Event(29.14, "api", {"kind": "late", "scope": "mlmodelrollouts", "share": 1.0, "seconds": 0.9}),
        spec={"traffic": {"fallback": "None"}, "analysis": {"method": "Sequential"}},
        models={"v2": Model(errors=0.2, very_slow=0.2)},
        rate=60,
        scrape=2,
    ),
    "Prometheus came back, and weight rose on what it had counted before it went away": released(
        20261722,
        Event(34.08, "outage", {"seconds": 18.1, "forget": False}),
        spec={"analysis": {"method": "Sequential"}},
        scrape=1,
    ),
    "stable was scaled to nothing while events got lost: the next look at everything repairs it": released(
        20261800,
        Event(39.02, "deaf", {"share": 1.0, "delay": 0.05, "seconds": 2.7}),
        Event(40.24, "scale_stable", {"replicas": 0}),
        Event(44.02, "delete", {"what": "checkpoint"}),
        spec={"analysis": {"method": "Sequential"}},
        models={"v2": Model(pods="crash")},
        rate=60,
        scrape=5,
    ),
    "a candidate's pods were killed: its copies prove it Good before its few live failures prove anything": released(
        20262910,
        Event(37.1, "kill_pods", {"track": "candidate"}),
        spec={"analysis": {"method": "Sequential"}},
        scrape=5,
    ),
    "somebody sets a weight while nothing can be read: it goes soon after reads are answered again": released(
        20272288,
        Event(20.49, "crash", {"away": 0.0, "point": "after-action"}),
        Event(47.89, "api", {"kind": "unavailable", "scope": "reads", "share": 1.0, "seconds": 17.3}),
        Event(49.19, "set_weight", {"weight": 100}),
        models={"v2": Model(errors=0.2)},
        spec={"analysis": {"method": "Threshold"}},
        rate=60,
        scrape=5,
        routers=2,
    ),
    "the route was deleted and pods went while no operator was there: the next one counts from when it comes": released(
        93612248,
        Event(6.16, "crash", {"away": 15.0, "point": "after-done"}),
        Event(28.85, "delete", {"what": "route"}),
        Event(32.93, "unusable_target", {"seconds": 6.4}),
        spec={"traffic": {"mirrorPercent": 20}, "analysis": {"method": "Threshold"}},
        models={"v2": Model(startup=2.0)},
        scrape=5,
    ),
    "the target was made anew, and stable, whose template no ReplicaSet holds since, lost its labels": released(
        410003344,
        Event(14.39, "delete_target", {"seconds": 1.3}),
        Event(21.64, "strip", {"what": "stable"}),
        spec={"analysis": {"method": "Threshold"}},
        models={"v2": Model(startup=6.0)},
        scrape=1,
    ),
    "the server comes late to a write of evidence that was given up: what was written after it stays": released(
        1173,
        Event(0.08, "scrapes", {"kind": "spoiling", "seconds": 3.8}),
        Event(42.5159, "api", {"kind": "late", "scope": "configmaps", "share": 0.2, "seconds": 15.837411923261039}),
        spec={"mode": "Observe", "analysis": {"method": "Sequential"}},
        models={"v2": Model(startup=2.0), "v3": Model(startup=6.0)},
        rate=15,
        scrape=2,
    ),
    "what is called beside a pass, now and then, is none of its calls": released(
        500007596,
        spec={
            "plan": {"steps": [{"weight": 10, "durationSeconds": 5}, {"weight": 100, "durationSeconds": 5}], "soakSeconds": 6},
            "analysis": {"method": "Sequential"},
        },
        models={"v2": Model(errors=0.15, startup=2.0), "v3": Model(startup=6.0)},
        rate=15,
        scrape=5,
    ),
    "what was counted while Prometheus answered with nothing was passed over, and a weight rose though the candidate had failed": released(
        700000482,
        Event(42.21, "kill_pods", {"track": "candidate"}),
        Event(43.05, "set_weight", {"weight": 5}),
        Event(46.02, "trouble", {"kind": "empty", "seconds": 19.6}),
        spec={"analysis": {"method": "Threshold"}},
        models={"v2": Model(startup=2.0)},
        rate=60,
        scrape=1,
    ),
    "a plain comparison of the PSI, now and then, takes a candidate back that has not drifted": released(
        700001422,
        spec={"analysis": {"drift": {"action": "Abort"}, "method": "Threshold"}},
        models={"v2": Model(startup=0.5)},
        rate=15,
        scrape=2,
        routers=2,
    ),
    "a weight that is on its way while somebody deletes the checkpoint is still one of the run": released(
        255305400,
        Event(30.2, "pause", {"seconds": 1.0}),
        Event(44.18, "api", {"kind": "slow", "scope": "writes", "share": 1.0, "seconds": 10.2}),
        Event(48.19, "delete", {"what": "checkpoint"}),
        spec={"analysis": {"method": "Sequential"}},
        models={"v2": Model(startup=0.5)},
        rate=60,
        scrape=5,
    ),
    "a weight that rises while somebody has just cut the candidate's Service off is one of the plan's, too": Story(
        730009632,
        (
            Event(0.21, "sicken", {"track": "stable", "what": "crashing", "seconds": 0.8}),
            RELEASE,
            Event(32.34, "meddle", {"what": "candidate Service"}),
        ),
        spec={"analysis": {"method": "Sequential"}},
        models={"v2": Model(startup=2.0)},
        rate=60,
        scrape=5,
        routers=2,
    ),
    "of three operators one has not seen what the others raised and took back: what it counted at this weight stands": released(
        730010692,
        Event(28.84, "second", {"seconds": 20.7, "oldest_goes": False}),
        Event(33.63, "second", {"seconds": 15.5, "oldest_goes": False}),
        spec={"analysis": {"intervalSeconds": 1, "method": "Sequential"}},
        models={"v2": Model(startup=6.0)},
        rate=60,
        scrape=1,
    ),
    "a route without its labels was given a weight, and nobody looked at it for a minute": Story(
        850000298,
        (Event(32.71, "strip", {"what": "route"}), Event(37.64, "set_weight", {"weight": 50})),
        rate=60,
        scrape=5,
        routers=1,
    ),
    "the first scrape of a candidate found copies already, two failed ones among them, which nobody can count": released(
        860002529,
        spec={"traffic": {"mirrorPercent": 20}, "analysis": {"method": "Threshold"}},
        models={"v2": Model(errors=0.15)},
        scrape=2,
        routers=1,
    ),
    "what copies had shown was let pass once it had been waited for: a candidate that failed a fifth of them got its first weight": PATCHY,
    "adoption waits until the pods that somebody's template had brought into its clone are gone": Story(
        880001749,
        (Event(1.7, "strip", {"what": "route"}), Event(16.66, "meddle", {"what": "stable"}), Event(47.28, "pause", {"seconds": 22.5})),
        spec={"analysis": {"method": "Sequential"}},
        rate=15,
        scrape=1,
        routers=1,
    ),
    "all pods of the candidate were gone for two seconds while the last step became the soak: nine of twenty requests failed": released(
        910006107,
        Event(46.55, "kill_pods", {"track": "candidate"}),
        spec={
            "plan": {"steps": [{"weight": 10, "durationSeconds": 5}, {"weight": 100, "durationSeconds": 5}], "soakSeconds": 6},
            "analysis": {"method": "Threshold"},
        },
        models={"v2": Model(shifted=True)},
        rate=15,
        scrape=5,
        routers=1,
    ),
    "a weight rises while a slow API keeps the pass waiting in which somebody deletes the candidate's Service": Story(
        880000331,
        (
            RELEASE,
            Event(18.84, "strip", {"what": "route"}),
            Event(22.8, "api", {"kind": "slow", "scope": "httproutes", "share": 1.0, "seconds": 1.0}),
            Event(23.74, "delete", {"what": "candidate Service"}),
        ),
        spec={"analysis": {"method": "Threshold"}},
        models={"v2": Model(startup=0.5)},
        rate=60,
        scrape=1,
        routers=1,
    ),
    "stable had no ready pod while the candidate began to fail: until it is back, the candidate is not shown to be worse": released(
        820000070,
        Event(46.13, "sicken", {"track": "stable", "what": "unready", "seconds": 18.9}),
        Event(47.21, "degrade", {"version": "v2", "errors": 1.0}),
        spec={"replicas": 1, "analysis": {"method": "Sequential"}},
        models={"v2": Model(shifted=True)},
        rate=30,
        scrape=1,
    ),
    "evidence of a run that ended was refused, and tried again a minute later: nothing else was due": Story(
        930000674,
        (
            Event(11.04, "meddle", {"what": "stable"}),
            RELEASE,
            Event(36.72, "api", {"kind": "forbidden", "scope": "configmaps", "share": 0.5, "seconds": 26.0}),
        ),
        spec={"replicas": 1, "analysis": {"method": "Sequential"}},
        models={"v2": Model(very_slow=0.3, startup=2.0)},
        rate=60,
        scrape=5,
        routers=2,
    ),
}
