"""What active health checks know of one endpoint.

Rules (Envoy ``health_checker_base_impl``):

- the first check decides at once, either way;
- a healthy endpoint goes after ``unhealthy_threshold`` checks in a row without an answer, but at once when it answers
  that it is not well (a status that is not expected, anything else than SERVING);
- an unhealthy one comes back after ``healthy_threshold`` checks in a row that pass.
"""

from __future__ import annotations

from enum import Enum

from meshlib.model.client_policy import HealthCheck

__all__ = ["Checked", "Probe"]


class Probe(Enum):
    """What came of one check; the last says nothing about the endpoint, the doing was ours."""

    PASSED = "passed"
    ANSWERED_BADLY = "answered that it is not well"
    NO_ANSWER = "did not answer"
    NOTHING = "was not asked"


class Checked:
    """The verdict on one endpoint. Not locked.

    Attributes:
        due: When it is to be checked next.
        running: A check is under way.
        healthy: The verdict; None before the first check.
        last: What came of the last check, in words; ``""`` before.
    """

    __slots__ = ("_streak", "due", "healthy", "last", "running")

    def __init__(self, due: float) -> None:
        self.due = due
        self.running = False
        self.healthy: bool | None = None
        self.last = ""
        self._streak = 0

    def record(self, settings: HealthCheck, probe: Probe, words: str = "") -> bool:
        """Take a result in; True when the verdict changed."""
        self.running = False
        if probe is Probe.NOTHING:
            return False
        self.last = words or probe.value
        passed = probe is Probe.PASSED
        if passed is self.healthy:
            self._streak = 0
            return False
        self._streak += 1
        if self._streak < self._needed(settings, probe):
            return False
        self.healthy, self._streak = passed, 0
        return True

    def _needed(self, settings: HealthCheck, probe: Probe) -> int:
        """How many such results in a row it takes."""
        if self.healthy is None or probe is Probe.ANSWERED_BADLY:
            return 1
        return settings.healthy_threshold if probe is Probe.PASSED else settings.unhealthy_threshold
