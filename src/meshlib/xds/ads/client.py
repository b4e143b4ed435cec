"""All control planes of one client: whom to ask for what, and which of several servers counts.

What is asked for follows from what came: listeners name tables, tables name clusters, clusters name endpoints. Of the
servers of an authority the first counts; while it cannot be reached and something is missing, the next is asked too,
until an earlier one answers again.

Source: gRFCs A47 (authorities), A71 and A95 (fallback), A74 (dependencies).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from meshlib.xds.ads.cache import Cache
from meshlib.xds.ads.delta import Delta
from meshlib.xds.ads.keyed import secrets_of
from meshlib.xds.ads.kinds import EVERYTHING, Kind, named
from meshlib.xds.ads.session import Rules, Session
from meshlib.xds.ads.sotw import AgentSecrets, StateOfTheWorld
from meshlib.xds.ads.warming import DEEPEST, Warming, World, clusters_of
from meshlib.xds.bootstrap import Bootstrap, Credentials, Server
from meshlib.xds.decode.clusters import DecodedCluster
from meshlib.xds.decode.findings import InvalidResource, Profile
from meshlib.xds.names import authority_of, canonical

__all__ = ["Client", "Group", "Member"]

Names = dict[Kind, set[str]]

_AGENT = "#agent"
"""Instead of an authority: who has the mesh's own secrets."""


@dataclass(slots=True, eq=False)
class Member:
    """A server of a group and the session with it."""

    server: Server
    session: Session


class Group:
    """The servers of one authority, in order of preference.

    Attributes:
        authority: ``""`` for the top-level servers.
        members: All of them.
        active: Index of the last one that is asked; those before it are being reached for.
    """

    def __init__(self, authority: str, members: Sequence[Member], *, on_reachability_only: bool = False) -> None:
        self.authority = authority
        self.members = tuple(members)
        self.active = 0
        self._on_reachability_only = on_reachability_only

    @property
    def asked(self) -> tuple[Member, ...]:
        """The servers to hold a stream with."""
        return self.members[: self.active + 1]

    def failed(self, member: Member, *, lacking: bool) -> None:
        """A server cannot be reached; ``lacking`` is whether anything that is wanted is not here."""
        at = self.members.index(member)
        last = len(self.members) - 1
        if at == self.active and at < last and (lacking or self._on_reachability_only):
            self.active += 1

    def answered(self, member: Member) -> None:
        """A server answered: those after it are let go."""
        self.active = min(self.active, self.members.index(member))


class Client:
    """The whole state of an xDS client.

    Args:
        bootstrap: Servers and authorities.
        node: The ``Node`` message.
        everything: Ask for all listeners and clusters, as a sidecar does; else for those of ``ask`` alone, as gRPC.
        delta: Speak the incremental protocol.
        profile: Whose rules of validation hold.
        hold: See ``Rules.hold``.
        agent: gRPC target of the agent that has the mesh's own secrets; ``""`` for none.

    Attributes:
        cache: What is known.
        groups: The servers, by authority.
    """

    def __init__(
        self,
        bootstrap: Bootstrap,
        node: Any,
        *,
        everything: bool,
        delta: bool = False,
        profile: Profile = Profile.HTTP,
        hold: float = 30.0,
        agent: str = "",
    ) -> None:
        self.cache = Cache(profile)
        self._everything = everything
        self._roots: set[str] = set()
        self._restored = False
        self._by_agent: frozenset[str] = frozenset()
        self._warming = Warming(self.cache, every_cluster=everything, agent=bool(agent))
        kind = Delta if delta else StateOfTheWorld

        def member(server: Server, authority: str) -> Member:
            return Member(server, kind(self.cache, node, Rules.of(server.features, hold, authority)))

        lists = {"": (bootstrap.servers, False)} | {
            name: (each.servers or bootstrap.servers, each.fallback_on_reachability_only)
            for name, each in bootstrap.authorities.items()
        }
        self.groups = {
            name: Group(name, [member(server, name) for server in servers], on_reachability_only=always)
            for name, (servers, always) in lists.items()
        }
        if agent:
            session = AgentSecrets(self.cache, node, Rules.of((), hold))
            self.groups[_AGENT] = Group(_AGENT, [Member(Server(agent, Credentials("insecure")), session)])
        self._has_agent = bool(agent)
        self._wanted: Names = {}
        self._want(0.0)

    # What is asked for ----------------------------------------------------------------------------------------------

    def ask(self, listeners: Iterable[str], now: float) -> bool:
        """Ask for these listeners too; whether any of them is new."""
        new = {canonical(name) for name in listeners} - self._roots
        if new:
            self._roots |= new
            self._want(now)
        return bool(new)

    def needs(self, group: Group) -> bool:
        """Whether anything of a group's authority is wanted."""
        return any(self._asks(group, kind, name) for kind, names in self._wanted.items() for name in names)

    def lacks(self, group: Group) -> bool:
        """Whether something that is wanted of a group is not here."""
        for kind, names in self._wanted.items():
            for name in names:
                if not self._asks(group, kind, name):
                    continue
                here = any(self.cache.with_values(kind)) if name == EVERYTHING else self.cache.has_value(kind, name)
                if not here:
                    return True
        return False

    def _asks(self, group: Group, kind: Kind, name: str) -> bool:
        """Whether a name is a group's to tell of."""
        if kind is Kind.SECRET and name in self._by_agent:
            return group.authority == _AGENT
        return authority_of(name) == group.authority

    def _want(self, now: float) -> None:
        wanted = self._names()
        if wanted == self._wanted:
            return
        self._wanted = wanted
        for kind, names in wanted.items():
            self.cache.retain(kind, names - {EVERYTHING}, everything=EVERYTHING in names)
        for group in self.groups.values():
            own = {
                kind: frozenset(name for name in names if self._asks(group, kind, name))
                for kind, names in wanted.items()
            }
            for member in group.members:
                member.session.want(own, now)

    def _names(self) -> Names:
        """What everything that is here, or still in force, refers to."""
        every = {EVERYTHING} if self._everything else set()
        world = self._warming.world
        listeners = [value for _, value in self.cache.with_values(Kind.LISTENER)]
        in_force = (served.listener for served in world.listeners.values())
        managers = [each.manager for each in (*listeners, *in_force) if not each.inbound]
        tables = {each.table_name for each in managers if each is not None and each.table_name}
        clusters = set(every) or self._clusters(listeners)
        known = [value for _, value in self.cache.with_values(Kind.CLUSTER)]
        services = {each.service_name for each in (*known, *world.clusters.values()) if each.service_name}
        return {
            Kind.LISTENER: every | self._roots,
            Kind.ROUTE: {canonical(name) for name in tables},
            Kind.CLUSTER: {canonical(name) for name in clusters},
            Kind.ENDPOINT: {canonical(name) for name in services},
            Kind.SECRET: self._secrets([*known, *world.clusters.values()]),
        }

    def _secrets(self, clusters: Iterable[DecodedCluster]) -> set[str]:
        """What TLS is made of; names are the agent's where a cluster says so."""
        named = [(each.secrets.by_agent, secrets_of(each, agent=self._has_agent)) for each in clusters]
        self._by_agent = frozenset(name for by_agent, names in named if by_agent for name in names)
        return {name for _, names in named for name in names}

    def _clusters(self, listeners: Iterable[Any]) -> set[str]:
        """The clusters that tables name, and the parts of aggregates."""
        inline = [each.manager.table for each in listeners if each.manager is not None and not each.inbound]
        found = {name for _, table in self.cache.with_values(Kind.ROUTE) for name in clusters_of(table)}
        found |= {name for table in inline if table is not None for name in clusters_of(table)}
        found |= {name for served in self._warming.world.listeners.values() for name in served.names}
        fresh = found
        for _ in range(DEEPEST):
            entries = (self.cache.get(Kind.CLUSTER, canonical(name)) for name in fresh)
            fresh = {child for e in entries if e is not None and e.value is not None for child in e.value.children}
            fresh -= found
            found |= fresh
        return found

    # What the drivers tell ------------------------------------------------------------------------------------------

    def opened(self, member: Member, now: float) -> None:
        """A stream stands."""
        member.session.open(now)

    def received(self, group: Group, member: Member, answer: Any, now: float) -> None:
        """An answer came; see each session's ``outbox`` afterwards."""
        member.session.receive(answer, now)
        if self.cache.changed:
            group.answered(member)
        self._follow(now)

    def lost(self, group: Group, member: Member) -> None:
        """A stream ended. One that brought an answer is no failure (gRFC A57)."""
        failed = not member.session.answered
        member.session.close()
        if failed:
            group.failed(member, lacking=self.lacks(group))

    def expire(self, now: float) -> None:
        """Time went by."""
        for session in self._sessions():
            session.expire(now)
        self._follow(now)

    @property
    def deadline(self) -> float | None:
        """When ``expire`` has something to do; None for never."""
        times = [session.deadline for session in self._sessions()]
        return min((at for at in (*times, self._warming.deadline) if at is not None), default=None)

    def _sessions(self) -> list[Session]:
        return [member.session for group in self.groups.values() for member in group.members]

    def _follow(self, now: float) -> None:
        """Bring the world up to date, and ask for what it refers to; each can make a difference to the other."""
        due = self._warming.deadline is not None and self._warming.deadline <= now
        while changes := self.cache.take_changes():
            before = self.world.routing
            if self._warming.advance(changes, now).routing is not before or any(
                kind is not Kind.ENDPOINT for kind, _ in changes
            ):
                self._want(now)
            due = False
        if due:
            self._warming.advance((), now)
            self._want(now)
            self._follow(now)

    # What comes of it -----------------------------------------------------------------------------------------------

    @property
    def world(self) -> World:
        """What requests may use."""
        return self._warming.world

    @property
    def version(self) -> str:
        """What the server that counts called its last answer; ``""`` before the first."""
        group = self.groups[""]
        return group.members[group.active].session.version

    @property
    def complete(self) -> bool:
        """Whether everything that is asked for is there, or known not to be; or is as it was in an earlier run."""
        if self._restored and self.world.listeners:
            return True
        if self.world.waiting or any(not self.cache.settled(Kind.LISTENER, name) for name in self._roots):
            return False
        if not self._everything:
            return True
        top = self.groups[""].members
        return all(any(m.session.has_heard(kind) for m in top) for kind in (Kind.LISTENER, Kind.CLUSTER))

    @property
    def absent(self) -> frozenset[str]:
        """Listeners that were asked for and are not to be had, or serve nothing."""
        cache, world = self.cache, self.world
        missing = (name for name in self._roots if name not in world.listeners)
        return frozenset(
            name
            for name in missing
            if cache.settled(Kind.LISTENER, name) and not (cache.has_value(Kind.LISTENER, name) and world.waiting)
        )

    def restore(self, entries: Mapping[Kind, Iterable[tuple[str, Any, str]]], now: float) -> None:
        """Take resources that were kept from an earlier run: names, packed messages, versions."""
        self._restored = True
        if not self._everything:
            self._roots |= {name for name, _, _ in entries.get(Kind.LISTENER, ())}
        for kind in (Kind.LISTENER, Kind.ROUTE, Kind.CLUSTER, Kind.ENDPOINT):
            for name, packed, version in entries.get(kind, ()):
                try:
                    _, made = named(kind, packed)
                    found = self.cache.read(kind, name, made, packed.value)
                except InvalidResource:
                    continue  # of another version of this program, which read more, or less
                self.cache.accept(kind, name, found, packed.value, version, now)
        self._follow(now)
