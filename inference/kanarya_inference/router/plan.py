"""What is in force: the settings, the weights, and the two tracks they speak of."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cached_property
from random import Random

from kanarya_inference.router.breaker import Breaker
from kanarya_inference.router.compare import MatchRule
from kanarya_inference.router.endpoints import Pool
from kanarya_inference.router.metrics import TrackSeries
from kanarya_inference.router.model import Attempt, Exposure, Request, TrackName
from kanarya_inference.router.settings import Settings
from kanarya_inference.router.windows import Clock

ARRIVAL_SECONDS = 10.0
"""Settings and EndpointSlices come by different watches: so long may a newly named revision's first pod be missing."""


@dataclass(eq=False)
class Track:
    """One revision on one track, for as long as the settings name it. `series` is None for a candidate without a revision."""

    name: TrackName
    service: str
    revision: str | None
    pool: Pool
    breaker: Breaker
    named_at: float
    series: TrackSeries | None = None
    _arrived: bool = field(default=False, init=False)

    def expected(self, clock: Clock) -> bool:
        """Tell whether a missing endpoint is the track's fault by now: it had one before, or had its time to come up."""
        if not self._arrived:
            self._arrived = self.pool.ready or clock() - self.named_at >= ARRIVAL_SECONDS
        return self._arrived

    def observe(self, exposure: Exposure, attempt: Attempt) -> None:
        """Count one attempt on this track."""
        if self.series is not None:
            self.series.observe(exposure, attempt)


@dataclass(frozen=True, eq=False)
class Plan:
    """Immutable: a change makes a new plan, requests under way keep theirs.

    `stable_weight` of `total_weight` requests go to stable. A track of weight 0 is never chosen.
    """

    settings: Settings
    generation: int
    stable: Track
    candidate: Track
    stable_weight: int
    total_weight: int

    @cached_property
    def match_rule(self) -> MatchRule:
        """When two answers are the same."""
        return self.settings.match_rule

    def choose(self, random: Random, request: Request) -> Track:
        """Draw the track of one live request, or take the one that its sticky header has."""
        if self.stable_weight == self.total_weight:
            return self.stable
        if self.stable_weight == 0:
            return self.candidate
        value = request.header(self.settings.sticky_header) if self.settings.sticky_header else None
        if value is None:
            return self.stable if random.randrange(self.total_weight) < self.stable_weight else self.candidate
        return self.stable if self._place(value) < self.stable_weight else self.candidate

    def _place(self, value: str) -> int:
        """Place a client among the weights: the same for a revision at all its weights, so that it moves to the candidate once at most."""
        drawn = hashlib.blake2b(f"{self.candidate.revision}/{value}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
        return int.from_bytes(drawn) * self.total_weight >> 64

    def other(self, track: Track) -> Track:
        """Return the track that gets the copy of a request answered by `track`."""
        return self.candidate if track is self.stable else self.stable

    @property
    def heaviest(self) -> Track:
        """Return the track most requests go to."""
        return self.stable if 2 * self.stable_weight >= self.total_weight else self.candidate

    @property
    def mirror_seconds(self) -> float:
        """How long a mirrored copy may take."""
        return self.settings.mirror_timeout_milliseconds / 1000
