"""The lines that `kanarya judge` reads: cumulative counts of the current step, checked, as increments since the line before."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from kanarya.api.rollout import Analysis
from kanarya.decision.counts import Attempts, Bins, Counts, Drift, Missing, Reading, Sight
from kanarya.decision.judge import ALL

COMPARISONS = ("attempted", "compared", "mismatched")
MOST_CHARACTERS = 60
"""Longest piece of a line that an error repeats."""


class LineError(ValueError):
    """A line cannot be used; the message names the field, and what to change."""

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(f"{name}: {problem}" if name else problem)


@dataclass(frozen=True)
class Line:
    """A line: `t` as it stands there, the step, what was counted since the line before."""

    t: float
    step: int
    reading: Reading
    lacking: Mapping[str, str]
    """For each metric without data, or `*`, a sentence on what the line lacks."""


@dataclass
class Intake:
    """What has been read of the current step; begins anew with each step.

    Attributes
    ----------
    analysis
        Whose thresholds the lines must have.
    known
        The last value of every count, by field.
    t
        Of the last line.
    """

    analysis: Analysis
    known: dict[str, float] = field(default_factory=dict)
    bins: dict[str, Bins] = field(default_factory=dict)
    counts: Counts = field(default_factory=Counts)
    t: float = 0.0

    def read(self, text: str, step: int) -> Line:
        """Read a line of step `step`.

        Raises
        ------
        LineError
            When it is not as the format says, of another step, or says less than the line before.
        """
        data = _parse(text)
        _only(data, "", ("t", "step", "candidate", "stable", "drift", "metrics"))
        t = _number(data, "", "t")
        if t is None:
            raise LineError("t", "is missing: the seconds since the step began")
        _check_step(data, step)
        if t < self.t:
            raise LineError("t", f"is {t:g}, before the {self.t:g} of the line before; t counts from the step's beginning")
        lacking = self._lacking(data)
        before, drift = self.counts, self._drift(data)
        custom = self._custom(data, t)
        self.counts, self.t = self._counts(data), t
        missing = {metric: why for metric, (why, _) in lacking.items()}
        newest = None if ALL in missing else t
        reading = Reading(until=t, counts=_difference(self.counts, before), drift=drift, newest=newest, missing=missing, custom=custom)
        return Line(data["t"], step, reading, {metric: sentence for metric, (_, sentence) in lacking.items()})

    def _counts(self, data: Mapping[str, Any]) -> Counts:
        candidate = _object(data, "", "candidate")
        _only(candidate, "candidate", ("live", "mirror", *COMPARISONS))
        live = self._attempts(candidate, "candidate", "live", self.counts.candidate_live)
        mirror = self._attempts(candidate, "candidate", "mirror", self.counts.candidate_mirror)
        stable = self._attempts(data, "", "stable", self.counts.stable)
        attempted, compared, mismatched = (self._count(candidate, "candidate", name) for name in COMPARISONS)
        counted = dict(zip(COMPARISONS, (attempted, compared, mismatched), strict=True))
        _at_most(candidate, "candidate", counted, "compared", "attempted")
        _at_most(candidate, "candidate", counted, "mismatched", "compared")
        return Counts(live, mirror, stable, attempted, compared, mismatched)

    def _attempts(self, data: Mapping[str, Any], path: str, name: str, before: Attempts) -> Attempts:
        """Give the attempts of a part of the line; what it does not say is as it was `before`."""
        part, here = _object(data, path, name), _join(path, name)
        _only(part, here, ("requests", "errors", "slower"))
        requests, errors = self._count(part, here, "requests"), self._count(part, here, "errors")
        _at_most(part, here, {"requests": requests, "errors": errors}, "errors", "requests")
        thresholds, there = _object(part, here, "slower"), f"{here}.slower"
        keys = sorted(((_milliseconds(key, there), key) for key in thresholds), key=lambda pair: float(pair[0]))
        counted = {name: self._count(thresholds, there, key) for name, key in keys}
        if len(counted) < len(keys):
            raise LineError(there, "has a threshold twice")
        for (shorter, more), (longer, fewer) in pairwise([*([("requests", requests)] if "requests" in part else []), *counted.items()]):
            if fewer > more:
                raise LineError(f"{there}.{longer}", f"is {fewer:g}, more than the {more:g} of {shorter}")
        return Attempts(requests, errors, {**dict(before.slower), **counted})

    def _count(self, data: Mapping[str, Any], path: str, name: str) -> float:
        """Give a count; the last known one where the line has none."""
        full = f"{path}.{name}"
        count, known = _number(data, path, name), self.known.get(full, 0.0)
        if count is None:
            return known
        if count < known:
            raise LineError(full, f"fell from {known:g} to {count:g}; counts of a step only grow, and begin at zero with the next step")
        self.known[full] = count
        return count

    def _drift(self, data: Mapping[str, Any]) -> Drift:
        features = _object(data, "", "drift")
        current: dict[str, Bins] = {}
        reference: dict[str, Bins] = {}
        for feature in features:
            path, bins = f"drift.{feature}", _object(features, "drift", feature)
            _only(bins, path, ("reference", "current"))
            reference[feature], counted = _bins(bins, path, "reference"), _bins(bins, path, "current")
            if len(counted) != len(reference[feature]):
                raise LineError(f"{path}.current", f"has {len(counted)} bins, and the reference has {len(reference[feature])}")
            known = self.bins.get(feature, (0.0,) * len(counted))
            if len(known) != len(counted):
                raise LineError(f"{path}.current", f"has {len(counted)} bins, and had {len(known)} in the line before")
            grown = tuple(now - then for now, then in zip(counted, known, strict=True))
            if min(grown) < 0:
                at = next(i for i, more in enumerate(grown) if more < 0)
                raise LineError(f"{path}.current[{at}]", f"fell from {known[at]:g} to {counted[at]:g}; counts of a step only grow")
            current[feature], self.bins[feature] = grown, counted
        return Drift(current, reference)

    def _custom(self, data: Mapping[str, Any], t: float) -> dict[str, Sight]:
        """Give the metrics of the team's own: a value as it is at `t`, or a ratio's counts since the line before."""
        metrics = _object(data, "", "metrics")
        found: dict[str, Sight] = {}
        _only(metrics, "metrics", tuple(metric.name for metric in self.analysis.metrics))
        for metric in self.analysis.metrics:
            if metric.name not in metrics:
                continue
            part, path = _object(metrics, "metrics", metric.name), f"metrics.{metric.name}"
            if metric.bad is None:
                _only(part, path, ("value",))
                if "value" in part:
                    found[metric.name] = Sight(t, value=_checked(part["value"], path, "value", least=-math.inf), oldest=t)
            elif {"bad", "total"} <= {*part}:
                _only(part, path, ("bad", "total"))
                before = {name: self.known.get(f"{path}.{name}", 0.0) for name in ("bad", "total")}
                now = {name: self._count(part, path, name) for name in ("bad", "total")}
                _at_most(part, path, now, "bad", "total")
                found[metric.name] = Sight(t, bad=now["bad"] - before["bad"], total=now["total"] - before["total"])
        return found

    def _lacking(self, data: Mapping[str, Any]) -> dict[str, tuple[Missing, str]]:
        """Give what the line has no data on, and a sentence for each; an absent key is no data."""
        found: dict[str, tuple[Missing, str]] = {}
        candidate = _object(data, "", "candidate")
        parts = {name: _object(candidate, "candidate", name) for name in ("live", "mirror") if name in candidate}
        if not parts and "stable" not in data:
            found[ALL] = Missing.SOURCE_DOWN, "the line has no counts of the candidate, and none of stable"
        elif not parts:
            found[ALL] = Missing.NO_SERIES, "the line has neither candidate.live nor candidate.mirror"
        for name, part in parts.items():
            path = f"candidate.{name}"
            for key, metrics in (("requests", ("errors", "latency")), ("errors", ("errors",))):
                if key not in part:
                    found |= {metric: (Missing.NO_SERIES, f"the line has no {path}.{key}") for metric in metrics if metric not in found}
            slower = {_milliseconds(key, f"{path}.slower") for key in _object(part, path, "slower")}
            for wanted in (self.analysis.latency.slo_milliseconds, self.analysis.latency.abort_milliseconds):
                if str(wanted) not in slower:
                    found.setdefault("latency", (Missing.MISSING_EDGE, f"the line has no {path}.slower.{wanted}"))
        for key in COMPARISONS:
            if key not in candidate:
                found.setdefault("match", (Missing.NO_SERIES, f"the line has no candidate.{key}"))
        own = _object(data, "", "metrics")
        for metric in self.analysis.metrics:
            needed = ("value",) if metric.bad is None else ("bad", "total")
            if not {*needed} <= {*_object(own, "metrics", metric.name)}:
                found[metric.name] = Missing.NO_SERIES, f"the line has no metrics.{metric.name}.{needed[-1]}"
        if "drift" not in data:
            found["drift"] = Missing.NO_REFERENCE, "the line has no drift"
        return found


def _parse(text: str) -> dict[str, Any]:
    try:
        data = json.loads(text, object_pairs_hook=_once, parse_constant=_no_number)
    except json.JSONDecodeError as error:
        raise LineError("", f"is not JSON: {error.msg} at character {error.pos + 1}") from None
    except RecursionError:
        raise LineError("", "is not JSON that can be read: its brackets are nested without end") from None
    except ValueError as error:  # a whole number of thousands of digits
        raise error if isinstance(error, LineError) else LineError("", f"is not JSON that can be read: {error}") from None
    if not isinstance(data, dict):
        raise LineError("", f"is {_kind(data)}: an object is expected")
    return data


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        keys = [key for key, _ in pairs]
        raise LineError(next(key for key in keys if keys.count(key) > 1)[:MOST_CHARACTERS], "stands twice in one object")
    return found


def _no_number(constant: str) -> float:
    raise LineError("", f"is not JSON: {constant} is no number there")


def _only(data: Mapping[str, Any], path: str, names: tuple[str, ...]) -> None:
    """Refuse what would silently be no data: a name with a mistake in it."""
    for name in data:
        if name not in names:
            raise LineError(_join(path, name[:MOST_CHARACTERS]), f"is no field of a line; there are {', '.join(names)}")


def _check_step(data: Mapping[str, Any], step: int) -> None:
    given = _number(data, "", "step")
    if given is None:
        raise LineError("step", "is missing: the step that the counts are of, from 0")
    if given != step:
        told = f"is {given:g}, but the run is at step {step}"
        if given < step:
            raise LineError("step", f"{told}: after an Advance, the counts begin again with the next step")
        raise LineError("step", f"{told}: a step begins only after an Advance")


def _object(data: Mapping[str, Any], path: str, name: str) -> Mapping[str, Any]:
    found = data.get(name)
    if found is None and name not in data:
        return {}
    if not isinstance(found, dict):
        raise LineError(_join(path, name), f"is {_kind(found)}: an object is expected")
    return found


def _number(data: Mapping[str, Any], path: str, name: str) -> float | None:
    found = data.get(name)
    if found is None and name not in data:
        return None
    return _checked(found, path, name)


def _checked(found: Any, path: str, name: str, *, least: float = 0.0) -> float:
    """Give a finite number of at least `least`."""
    if isinstance(found, bool) or not isinstance(found, int | float):
        raise LineError(_join(path, name), f"is {_kind(found)}: a number is expected")
    try:
        number = float(found)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number) or number < least:
        wanted = "a number of at least 0" if least == 0 else "a finite number"
        raise LineError(_join(path, name), f"is {str(found)[:MOST_CHARACTERS]}: {wanted} is expected")
    return number


def _bins(data: Mapping[str, Any], path: str, name: str) -> Bins:
    found = data.get(name)
    if not isinstance(found, list):
        what = "is missing" if name not in data else f"is {_kind(found)}"
        raise LineError(f"{path}.{name}", f"{what}: a list of counts per bin is expected")
    if len(found) < 2:
        raise LineError(f"{path}.{name}", "needs at least two bins")
    if set(map(type, found)) <= {int, float}:  # thousands of counts a line: not one by one unless there is something to say
        try:
            counts = tuple(map(float, found))
        except OverflowError:
            counts = (math.inf,)
        if min(counts) >= 0 and max(counts) < math.inf:
            return counts
    return tuple(_checked(count, path, f"{name}[{index}]") for index, count in enumerate(found))


def _milliseconds(key: str, path: str) -> str:
    """Give a threshold as thresholds are written: 80 for 80.0."""
    try:
        value = float(key)
    except ValueError:
        value = -1.0
    if not 0 < value < math.inf:
        raise LineError(f"{path}.{key[:MOST_CHARACTERS]}", "is no threshold: keys are milliseconds, such as 80")
    return str(int(value)) if value.is_integer() else str(value)


def _at_most(data: Mapping[str, Any], path: str, counts: Mapping[str, float], part: str, whole: str) -> None:
    """Refuse a part that is more than the whole, where the line has both."""
    if part in data and whole in data and counts[part] > counts[whole]:
        raise LineError(f"{path}.{part}", f"is {counts[part]:g}, more than the {counts[whole]:g} of {whole}")


def _difference(now: Counts, before: Counts) -> Counts:
    return Counts(
        _less(now.candidate_live, before.candidate_live),
        _less(now.candidate_mirror, before.candidate_mirror),
        _less(now.stable, before.stable),
        now.attempted - before.attempted,
        now.compared - before.compared,
        now.mismatched - before.mismatched,
    )


def _less(now: Attempts, before: Attempts) -> Attempts:
    slower = {key: count - before.slower.get(key, 0.0) for key, count in now.slower.items()}
    return Attempts(now.requests - before.requests, now.errors - before.errors, slower)


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _kind(value: Any) -> str:
    names = {bool: "true or false", str: "text", list: "a list", dict: "an object", type(None): "null"}
    return names.get(type(value), "a number")
