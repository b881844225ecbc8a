"""Those of the stories in which a clock was set: the operators' alone, or all of them."""

from __future__ import annotations

from tests.world.story import COPIES_FIRST, RELEASE, Event, Story, released
from tests.world.traffic import Model

CLOCKS: dict[str, Story] = {
    "a clock that was set back held a run in Preflight for an hour": released(
        214, Event(20, "jump", {"by": 3600.0, "whose": "operators"}), Event(26, "release", {"version": "v3"}), scrape=1
    ),
    "with the operator's clock behind, weight rose on samples from before the last weight change": released(
        1, Event(15, "jump", {"by": -8.0, "whose": "operators"}), rate=60, scrape=1
    ),
    "a checkpoint that was deleted was not written again while the clock was set back": Story(
        1896,
        (
            Event(2.48, "release", {"version": "v3"}),
            RELEASE,
            Event(17.08, "jump", {"by": 3600.0, "whose": "operators"}),
            Event(19.54, "delete_target", {"seconds": 1.3}),
            Event(20.41, "delete", {"what": "checkpoint"}),
        ),
        routers=2,
    ),
    "with all clocks set back, weight rose on samples that Prometheus had stored for the same time before": released(
        500173, Event(22.3, "unusable_target", {"seconds": 3.0}), Event(44.98, "jump", {"by": -40.0, "whose": "all"}), rate=60
    ),
    "a slow clock was set right, and samples from before a foreign cut spoke for the next rise": released(
        901183, Event(20.84, "jump", {"by": -8.0, "whose": "operators"}), Event(48.38, "set_weight", {"weight": 5}), rate=60
    ),
    "after a clock was set right, a weight rose by a sample that was too young to be counted": released(
        8005994,
        Event(14.29, "jump", {"by": -3.0, "whose": "operators"}),
        Event(32.95, "repeat", {"seconds": 2.8}),
        Event(34.55, "scrapes", {"kind": "doubling", "seconds": 21.4}),
        Event(39.2, "trouble", {"kind": "refused", "seconds": 2.5}),
        Event(40.3, "trouble", {"kind": "refused", "seconds": 1.0}),
        Event(40.64, "second", {"seconds": 3.8, "oldest_goes": True}),
        spec={"analysis": {"intervalSeconds": 4}},
        models={"v2": Model(startup=0.5)},
        rate=60,
        scrape=5,
    ),
    "a clock set forward and back took the errors of that time from the counts, and what was good before spoke for the rise": released(
        9000022,
        Event(30.23, "jump", {"by": 3600.0, "whose": "operators"}),
        Event(32.38, "degrade", {"version": "v2", "errors": 0.2}),
    ),
    "clocks that were set back while no operator ran make Prometheus' last samples look newer than the next process": released(
        8005346,
        Event(13.53, "meddle", {"what": "checkpoint"}),
        Event(14.53, "crash", {"away": 3.0, "point": "after-done"}),
        Event(20.63, "delete", {"what": "route"}),
        Event(21.08, "second", {"seconds": 9.3, "oldest_goes": False}),
        Event(40.59, "crash", {"away": 0.5, "point": "after-intent"}),
        Event(43.74, "jump", {"by": -3.0, "whose": "all"}),
        spec={"analysis": {"intervalSeconds": 1}},
        rate=60,
        scrape=1,
    ),
    "clocks were set back, and a new process took Prometheus' samples of that time before for proof of a higher weight": released(
        9000141,
        Event(41.15, "crash", {"away": 0.0, "point": "after-evidence"}),
        Event(42.95, "jump", {"by": -40.0, "whose": "all"}),
        spec={"analysis": {"method": "Sequential"}},
        models={"v2": Model(startup=0.5)},
        rate=60,
        scrape=5,
    ),
    "clocks were set back, and a router seemed to have begun in the middle of a step, with all that it had ever counted": released(
        610001770,
        Event(7.15, "jump", {"by": -40.0, "whose": "all"}),
        Event(19.83, "crash", {"away": 0.5, "calls": 24}),
        spec={"analysis": {"method": "Threshold"}},
        models={"v2": Model(startup=2.0)},
        scrape=5,
    ),
    "clocks were set back twice: samples are believed again once those from before are stale, and the candidate goes then": released(
        710004777,
        Event(11.95, "jump", {"by": -40.0, "whose": "all"}),
        Event(32.12, "jump", {"by": -3.0, "whose": "all"}),
        spec={"analysis": {"intervalSeconds": 1, "method": "Sequential"}},
        models={"v2": Model(mismatches=0.5, startup=2.0)},
        rate=60,
        scrape=5,
        routers=2,
    ),
    "a process began while its clock was slow: once that is set right, what was sampled before it must not seem newer": Story(
        730007440,
        (
            Event(4.88, "release", {"version": "v3"}),
            RELEASE,
            Event(23.29, "pause", {"seconds": 3.6}),
            Event(31.19, "jump", {"by": -3.0, "whose": "operators"}),
            Event(38.4, "crash", {"away": 3.0, "point": "before-intent"}),
        ),
        spec={"plan": COPIES_FIRST, "analysis": {"method": "Threshold"}},
        models={"v2": Model(startup=6.0), "v3": Model(startup=6.0)},
        rate=60,
        scrape=5,
        routers=2,
    ),
    "seconds that a clock was ahead when the weight changed are not counted, and are not asked for": Story(
        700000482,
        (
            Event(7.42, "jump", {"by": 8.0, "whose": "operators"}),
            RELEASE,
            Event(42.21, "kill_pods", {"track": "candidate"}),
            Event(43.05, "set_weight", {"weight": 5}),
            Event(46.02, "trouble", {"kind": "empty", "seconds": 19.6}),
        ),
        spec={"traffic": {"fallback": "None"}, "analysis": {"method": "Threshold"}},
        models={"v2": Model(startup=2.0)},
        rate=60,
        scrape=1,
    ),
    "clocks were set back and forward again: a scrape had a time from before the weight, and what it began nobody can count": Story(
        870000470,
        (
            Event(1.72, "kill_pods", {"track": "candidate"}),
            RELEASE,
            Event(35.1, "deaf", {"share": 0.3, "delay": 5.0, "seconds": 9.9}),
            Event(37.92, "jump", {"by": -3.0, "whose": "all"}),
            Event(40.22, "unusable_target", {"seconds": 2.6}),
        ),
        spec={"analysis": {"intervalSeconds": 4, "method": "Threshold"}},
        scrape=5,
        rate=15,
        routers=1,
    ),
    "a clock was set back while Prometheus failed, so nothing noted tells of it: samples of the times that come again prove nothing": Story(
        920009871,
        (
            Event(9.72, "trouble", {"kind": "failing", "seconds": 18.9}),
            RELEASE,
            Event(29.06, "jump", {"by": -8.0, "whose": "all"}),
        ),
        spec={"analysis": {"method": "Threshold"}},
        models={"v2": Model(startup=6.0)},
        rate=15,
    ),
    "all clocks were set back between two runs of a revision: the second one went by samples of the first": released(
        5,
        Event(36.0, "abort", {}),
        Event(44.0, "jump", {"by": -20.0, "whose": "all"}),
        Event(44.7, "retry", {}),
        spec={"analysis": {"method": "Threshold"}},
        rate=15,
    ),
}
