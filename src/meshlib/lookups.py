"""The DNS names of one mesh: which are wanted, what they stand for, and who asks about them."""

from __future__ import annotations

import random
from collections.abc import Sequence

from meshlib.clock import Clock
from meshlib.config.resolved import Expansions
from meshlib.dns import Names, Resolver, Resolving
from meshlib.dns.answers import Question

__all__ = ["Lookups"]


class Lookups:
    """Names by demand: whoever needs one says so, and finds its answer in the table once there is one.

    Args:
        nameservers: Whom to ask; None asks the system's servers.
        clock: The mesh's.
        rng: For jitter; None draws at random.

    Attributes:
        names: What is wanted, and known.
        resolving: Asks.
        expansions: Makes addresses of names in snapshots.

    Raises:
        ImportError: ``nameservers`` are given, and dnspython is not installed.
    """

    def __init__(self, nameservers: Sequence[str] | None, clock: Clock, rng: random.Random | None = None) -> None:
        self._clock = clock
        self.names = Names(rng)
        self.resolving = Resolving(self.names, _resolver(nameservers), clock)
        self.expansions = Expansions(lambda: self.names.table, self.want)

    def want(self, question: Question, refresh: float) -> None:
        """See ``Names.want``."""
        if self.names.want(question, refresh, self._clock.now()):
            self.resolving.wake()

    def latest(self, name: str) -> tuple[str, ...]:
        """The addresses of a name, as it was last answered; see ``Names.latest``."""
        return self.names.latest(Question(name))

    def doubt(self, address: str) -> None:
        """See ``Names.doubt``."""
        if self.names.doubt(address, self._clock.now()):
            self.resolving.wake()


def _resolver(nameservers: Sequence[str] | None) -> Resolver | None:
    """Whom the caller wants to be asked; None for whoever is there when the first name is met."""
    if nameservers is None:
        return None
    try:
        from meshlib.dns.dnspython import DnsResolver
    except ImportError as error:
        raise ImportError("nameservers need dnspython: install meshlib[dns]") from error
    return DnsResolver(nameservers)
