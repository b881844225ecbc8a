"""Looks at Prometheus: a request in, a `Reading` out, never an exception."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from kanarya.decision.counts import Counts, Drift, Missing, Reading
from kanarya.telemetry import profile
from kanarya.telemetry.counting import Span
from kanarya.telemetry.custom import CustomReader
from kanarya.telemetry.driftbins import count_drift
from kanarya.telemetry.feed import MAX_WINDOW_SECONDS, Feed, Interest, Source
from kanarya.telemetry.latency import Pairs, between_edges, report_missing_edges
from kanarya.telemetry.look import ALL, Findings, Look, horizon
from kanarya.telemetry.offline import offline_reports
from kanarya.telemetry.request import ReadRequest
from kanarya.telemetry.served import Served, combine, count_served
from kanarya.telemetry.servers import PROFILES, ServerProfile
from kanarya.telemetry.snapshot import Snapshot
from kanarya.telemetry.source import SourceError
from kanarya.telemetry.traffic import Traffic, count_traffic

__all__ = ["Collector", "ReadRequest"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Seen:
    """What the metrics of the rollout's profile tell: counts, edges used, the candidate's newest sample, a gap, nothing new."""

    counts: Counts
    pairs: Pairs
    newest: float | None
    gap: bool
    blank: bool


class Collector:
    """Reads the counts of any number of rollouts from one source.

    The routers are read for all of them in one query, model servers in one for each profile that rollouts name. `clock` gives epoch
    seconds; `custom_queries` is whether rollouts may bring queries of their own.
    """

    def __init__(self, source: Source, clock: Callable[[], float], *, custom_queries: bool = False) -> None:
        self._source = source
        self._clock = clock
        self._traffic = Feed(source, clock, _traffic_query)
        self._drift = Feed(source, clock, _drift_query)
        self._servers = {name: Feed(source, clock, _server_query(found)) for name, found in PROFILES.items() if found.carries}
        self._custom = CustomReader(source, clock, allowed=custom_queries)

    async def read(self, request: ReadRequest) -> Reading:
        """Count what is new for one rollout.

        Whatever goes wrong is in the reading: with the source down, `until` is the request's watermark and the next look goes on from
        there.
        """
        try:
            reading = await self._read(request)
            own = await self._custom.read(request)
            sentences = [*([reading.detail] if reading.detail else []), *own.sentences]
            return replace(reading, custom=own.sights, missing={**reading.missing, **own.missing}, detail=" ".join(sentences))
        except SourceError as error:
            return _down(request, str(error))
        except Exception:
            # A look must never end a reconcile: what it says then is that nothing could be seen.
            log.exception("samples of rollout %s/%s could not be counted", request.namespace, request.rollout)
            return _down(request, "The answer of Prometheus could not be counted; the operator's log has more.")

    async def close(self) -> None:
        """Give up the source."""
        await self._source.close()

    async def _read(self, request: ReadRequest) -> Reading:
        scrape = self._source.config.scrape_interval_seconds
        usual = horizon(scrape, request.tick_seconds)
        key = (request.namespace, request.rollout)
        interest = _traffic_interest(request, usual)
        now = self._clock()
        snapshot = await self._traffic.get(key, interest, min(now - usual, request.watermark - 2 * scrape))
        server = await self._server(key, request, usual, min(now - usual, request.watermark - 2 * scrape))
        bins = await self._bins(key, request, min(now - usual, request.drift_watermark - 2 * scrape))
        settled = min(one.settled for one in (snapshot, server, bins) if isinstance(one, Snapshot))
        until = max(request.watermark, settled)
        lost = any(one.start > request.watermark for one in (snapshot, server) if one is not None)
        look = self._look(request, snapshot, until)
        traffic = count_traffic(request, snapshot, look)
        if traffic.gap and not lost and _goes_further_back(snapshot, request.since):
            # A router was not scraped for longer than the usual window: its last sample before that is further back.
            snapshot = await self._traffic.get_alone(interest, request.since)
            look = self._look(request, snapshot, until)
            traffic = count_traffic(request, snapshot, look)
        seen = Seen(traffic.counts, traffic.pairs, traffic.newest, traffic.gap, traffic.blank)
        if server is not None:
            seen = await self._count_server(request, server, traffic, look, lost=lost)
        profile = PROFILES.get(request.profile)
        report_missing_edges(seen.pairs, profile if profile and "latency" in profile.carries else None, look)
        drift = await self._count_drift(request, bins, look)
        return Reading(
            until,
            seen.counts,
            drift,
            _on_our_clock(seen.newest, snapshot),
            _on_our_clock(traffic.stable_newest, snapshot),
            look.findings.missing,
            look.findings.detail,
            history_lost=lost or traffic.gap or seen.gap,
            blank=seen.blank,
            newest_counted=_on_our_clock(traffic.newest_counted, snapshot),
            edges=between_edges(seen.pairs),
            queries=self._queries(request, usual) if request.tells_queries else (),
            notes=profile.notes if profile else (),
            reports=offline_reports(request, bins, look) if request.wants_report and isinstance(bins, Snapshot) else {},
        )

    async def _server(self, key: tuple[str, str], request: ReadRequest, seconds: float, reach: float) -> Snapshot | None:
        """Give the samples of the rollout's model servers, when its profile reads them."""
        feed = self._servers.get(request.profile)
        interest = _server_interest(request, seconds)
        return await feed.get(key, interest, reach) if feed is not None and interest.pod_prefixes else None

    async def _count_server(self, request: ReadRequest, server: Snapshot, traffic: Traffic, look: Look, *, lost: bool) -> Seen:
        profile, called = PROFILES[request.profile], traffic.counts.candidate.requests > traffic.unanswered["candidate"]

        def count(snapshot: Snapshot) -> tuple[Served, Findings]:
            span, found = replace(look.span, known_from=snapshot.known_from), Findings()
            return count_served(profile, request, snapshot, replace(look, span=span, findings=found), called=called), found

        served, found = count(server)
        if served.gap and not lost and _goes_further_back(server, request.since):
            server = await self._servers[request.profile].get_alone(_server_interest(request, look.horizon), request.since)
            served, found = count(server)
        look.findings.take(found)
        known = [at for at in (traffic.newest, served.newest) if at is not None]
        newest = min(known) if len(known) == 2 else None
        pairs = served.pairs if "latency" in profile.carries else traffic.pairs
        return Seen(combine(profile, traffic, served), pairs, newest, served.gap, traffic.blank or served.blank)

    async def _bins(self, key: tuple[str, str], request: ReadRequest, reach: float) -> Snapshot | tuple[Missing, str]:
        """Give the samples for drift, or why there are none: drift must not keep errors from being judged."""
        interest = self._drift_interest(request)
        if not interest.pod_prefixes:
            return Missing.NO_SERIES, "No pods of the candidate are named, so nothing was read of its features."
        try:
            return await self._drift.get(key, interest, reach)
        except SourceError as error:
            return Missing.SOURCE_DOWN, str(error)

    async def _count_drift(self, request: ReadRequest, bins: Snapshot | tuple[Missing, str], look: Look) -> Drift:
        if not isinstance(bins, Snapshot):
            look.findings.add("drift", *bins)
            return Drift()
        until = max(look.span.until, request.drift_watermark)
        span = Span(request.drift_since, request.drift_watermark, until, bins.known_from)
        found = Findings()
        drift, gap = count_drift(request, bins, replace(look, span=span, findings=found))
        if gap and _goes_further_back(bins, request.drift_since):
            try:
                bins = await self._drift.get_alone(self._drift_interest(request), request.drift_since)
            except SourceError as error:
                look.findings.add("drift", Missing.SOURCE_DOWN, str(error))
                return Drift(reference=drift.reference)
            found = Findings()
            # A gap that stays costs the bins of that time, which makes the sample smaller and not another.
            drift, _ = count_drift(request, bins, replace(look, span=replace(span, known_from=bins.known_from), findings=found))
        look.findings.take(found)
        return drift

    def _drift_interest(self, request: ReadRequest) -> Interest:
        prefixes = frozenset(prefix for prefix in request.candidate_pod_prefixes if prefix)
        usual = horizon(self._source.config.scrape_interval_seconds, request.tick_seconds)
        return Interest(frozenset({request.namespace}), prefixes, seconds=usual)

    def _queries(self, request: ReadRequest, seconds: float) -> tuple[str, ...]:
        """Give what is asked for this rollout, as if it were the only one."""
        wanted: list[tuple[Callable[[Interest, int], str], Interest]] = [(_traffic_query, _traffic_interest(request, seconds))]
        if request.profile in self._servers:
            wanted.append((_server_query(PROFILES[request.profile]), _server_interest(request, seconds)))
        wanted.append((_drift_query, self._drift_interest(request)))
        return tuple(write(interest, math.ceil(seconds)) for write, interest in wanted if interest.pod_prefixes)

    def _look(self, request: ReadRequest, snapshot: Snapshot, until: float) -> Look:
        since = request.since + snapshot.behind  # samples up to there may be from before the weight changed
        span = Span(since, max(request.watermark, since), until, snapshot.known_from)
        now = self._clock() - self._source.clock_ahead
        return Look(span, now, self._source.config.scrape_interval_seconds, request.tick_seconds, Findings())


def _on_our_clock(newest: float | None, snapshot: Snapshot) -> float | None:
    """Give the time of a sample no later than it can have been taken, by our clock."""
    return None if newest is None else newest - snapshot.behind


def _goes_further_back(snapshot: Snapshot, since: float) -> bool:
    """Tell whether there may be samples of the span that the snapshot's window left out."""
    return snapshot.start > max(since, snapshot.at - MAX_WINDOW_SECONDS)


def _traffic_interest(request: ReadRequest, seconds: float) -> Interest:
    prefixes = frozenset({request.router_pod_prefix})
    return Interest(frozenset({request.namespace}), prefixes, frozenset(request.thresholds_ms), seconds)


def _server_interest(request: ReadRequest, seconds: float) -> Interest:
    prefixes = frozenset(prefix for prefix in (*request.candidate_pod_prefixes, request.stable_pod_prefix) if prefix)
    return Interest(frozenset({request.namespace}), prefixes, seconds=seconds)


def _server_query(profile: ServerProfile) -> Callable[[Interest, int], str]:
    return lambda interest, seconds: profile.query(interest.namespaces, interest.pod_prefixes, seconds)


def _traffic_query(interest: Interest, seconds: int) -> str:
    return profile.traffic_query(interest.thresholds_ms, interest.namespaces, interest.pod_prefixes, seconds)


def _drift_query(interest: Interest, seconds: int) -> str:
    return profile.drift_query(interest.namespaces, interest.pod_prefixes, seconds)


def _down(request: ReadRequest, sentence: str) -> Reading:
    return Reading(until=request.watermark, missing={ALL: Missing.SOURCE_DOWN}, detail=sentence)
