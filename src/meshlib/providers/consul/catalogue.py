"""All services of the catalogue that are wanted, each with a watch of its own, published as one set.

A service that leaves the list is not believed to be gone for that: its own watch says so, and its rules about an
emptiness hold. Then it stays known, without endpoints, for the lease, so that a restart of its only instance is no
change of routing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from time import monotonic
from typing import Any

from meshlib.model.problem import Problem, schema_warning
from meshlib.providers.base import Publish
from meshlib.providers.consul.agent import Agent, Reading
from meshlib.providers.consul.scope import Scope
from meshlib.providers.consul.services import Naming, datacenter_of, instances, objects
from meshlib.providers.consul.sharing import Sharing
from meshlib.providers.consul.turns import Own, Shared, Turn
from meshlib.providers.consul.watch import Watch
from meshlib.providers.http import TROUBLE
from meshlib.providers.objects import Objects
from meshlib.providers.troubles import Troubles

__all__ = ["Catalogue"]

_QUICK = 0.02
"""Seconds between two queries for what is unhealthy, of many: each is short, and tells of all services."""


@dataclass(slots=True)
class _Service:
    """One service of one data centre.

    Attributes:
        name: Its name.
        datacenter: As asked for; ``""`` is the agent's own.
        heard: Its watch has had an answer, or has failed once.
        listed: The catalogue has it.
        found: Where its nodes said that they are.
        unread: Instances that could not be read.
        empty_since: When its last instance went; None while it has any.
        task: Its watch.
    """

    name: str
    datacenter: str
    heard: bool = False
    listed: bool = True
    found: str = ""
    unread: tuple[Problem, ...] = ()
    empty_since: float | None = None
    task: asyncio.Task[None] | None = None


class Catalogue:
    """Watches until cancelled.

    Args:
        source: Name of the provider.
        agent: To ask.
        naming: How services are called.
        scope: What is wanted.
        publish: Gets all that is known, at each change, and each sign of life.
    """

    def __init__(self, source: str, agent: Agent, naming: Naming, scope: Scope, publish: Publish) -> None:
        self._source = source
        self._agent = agent
        self._naming = naming
        self._scope = scope
        self._publish_to = publish
        self._services: dict[tuple[str, str], _Service] = {}
        self._objects = Objects(source)
        self._troubles = Troubles()
        self._unheard = 0
        self._listed = self._complete = False
        self._version = 0
        self._short: set[str] = set()
        self._sharing = Sharing(scope.connections, scope.wait)

    async def run(self) -> None:
        """Watch; a failure before the first list is the provider's own and raised."""
        lists = {} if self._scope.services else await self._first_lists()
        async with asyncio.TaskGroup() as tasks:
            for datacenter in self._scope.datacenters:
                if self._scope.services:
                    self._take_list(tasks, datacenter, dict.fromkeys(self._scope.services, tuple(self._scope.tags)))
                    continue
                if datacenter in lists:
                    self._take_list(tasks, datacenter, lists[datacenter])
                tasks.create_task(self._list_watch(tasks, datacenter).run())
            self._listed = True
            self._publish()
            tasks.create_task(self._sharing.run())
            await self._sweep()

    # The list of services -------------------------------------------------------------------------------------------

    async def _first_lists(self) -> dict[str, Mapping[str, Any]]:
        """The lists of the data centres that answer; when none does, that is an error."""
        asked = [self._agent.services(datacenter) for datacenter in self._scope.datacenters]
        answers = await asyncio.gather(*asked, return_exceptions=True)
        lists: dict[str, Mapping[str, Any]] = {}
        for datacenter, answer in zip(self._scope.datacenters, answers, strict=True):
            if isinstance(answer, Reading):
                lists[datacenter] = answer.value
            elif not isinstance(answer, TROUBLE) or len(answers) == 1:
                raise answer
        if not lists and isinstance(answers[0], BaseException):
            raise answers[0]
        return lists

    def _list_watch(self, tasks: asyncio.TaskGroup, datacenter: str) -> Watch:
        return self._watch_of_all("the list of services", datacenter, self._list, partial(self._take_list, tasks))

    async def _list(self, datacenter: str, **how: Any) -> Reading:
        return self._sharing.listed(datacenter, await self._agent.services(datacenter, **how))

    def _watch_of_all(
        self, what: str, datacenter: str, read: Callable[..., Any], take: Callable[[str, Any], None], pace: float = 1.0
    ) -> Watch:
        what = f"{what}{f' of {datacenter}' if datacenter else ''}"
        return Watch(
            what,
            partial(read, datacenter),
            partial(take, datacenter),
            partial(self._tell, what),
            self._publish_to.alive,
            Own(self._scope.wait),
            interval=pace,
        )

    def _share(self, tasks: asyncio.TaskGroup, datacenter: str) -> None:
        """Some services share connections: watch what tells of their changes."""
        if datacenter in self._short:
            return
        self._short.add(datacenter)
        checks = ("the checks that fail", datacenter, self._agent.unhealthy, self._sharing.checked, _QUICK)
        tasks.create_task(self._watch_of_all(*checks).run())
        if self._scope.services:
            names = ("the list of services", datacenter, self._list, lambda datacenter, names: None)
            tasks.create_task(self._watch_of_all(*names).run())

    def _take_list(self, tasks: asyncio.TaskGroup, datacenter: str, names: Mapping[str, Any]) -> None:
        now = {name for name, tags in names.items() if self._scope.tags <= _texts(tags)}
        for key in sorted({(datacenter, name) for name in now} - self._services.keys()):
            service = self._services[key] = _Service(key[1], datacenter)
            turn = self._sharing.turn_of(key)
            if isinstance(turn, Shared):
                self._share(tasks, datacenter)
            service.task = tasks.create_task(self._service_watch(service, turn).run())
            self._unheard += 1
        for (of, name), service in self._services.items():
            if of == datacenter:
                service.listed = name in now

    async def _sweep(self) -> None:
        """Let go of services that are neither listed nor have had an instance for the lease."""
        while True:
            await asyncio.sleep(max(0.05, self._scope.lease / 4))
            ended = monotonic() - self._scope.lease
            gone = [
                key
                for key, service in self._services.items()
                if not service.listed and service.empty_since is not None and service.empty_since <= ended
            ]
            for key in gone:
                service = self._services.pop(key)
                if service.task is not None:
                    service.task.cancel()
                self._objects.remove(key)
                self._sharing.forget(key)
                self._troubles.tell(_called(service), "")
            if gone:
                self._publish()

    # One service ----------------------------------------------------------------------------------------------------

    def _service_watch(self, service: _Service, turn: Turn) -> Watch:
        scope = self._scope
        return Watch(
            _called(service),
            partial(self._agent.instances, service.name, service.datacenter, scope.asked),
            partial(self._take_instances, service),
            partial(self._heard, service),
            self._publish_to.alive,
            turn,
            scope.lease,
        )

    def _take_instances(self, service: _Service, answer: list[Any]) -> None:
        read = instances(answer, self._naming)
        self._sharing.placed((service.datacenter, service.name), answer)
        service.found = datacenter_of(answer) or service.found
        place, local = service.datacenter or service.found, not service.datacenter
        values = objects(service.name, self._naming, place, read.usable, local=local)
        changed = self._objects.put((service.datacenter, service.name), {"kind": "List", "items": values})
        unread = tuple(schema_warning(f"Service {service.name}", words, self._source) for words in read.problems)
        changed, service.unread = changed or unread != service.unread, unread
        if read.registered:
            service.empty_since = None
        elif service.empty_since is None:
            service.empty_since = monotonic()
        if self._is_first(service) or changed:
            self._publish()

    def _heard(self, service: _Service, words: str) -> None:
        if self._is_first(service):
            self._publish()
        self._tell(_called(service), words)

    def _is_first(self, service: _Service) -> bool:
        first, service.heard = not service.heard, True
        self._unheard -= first
        return first

    # Publishing -----------------------------------------------------------------------------------------------------

    def _tell(self, what: str, words: str) -> None:
        """A trouble is told without a publication, which is a sign of life; that it is over, by one."""
        if self._troubles.tell(what, words):
            if text := str(self._troubles):
                self._publish_to.troubled(text)
            else:
                self._publish()

    def _publish(self) -> None:
        """All that is known; nothing before every service of the first list has been heard of once."""
        self._complete = self._complete or (self._listed and not self._unheard)
        if not self._complete:
            return
        self._version += 1
        facts = self._objects.facts()
        unread = [problem for service in self._services.values() for problem in service.unread]
        self._publish_to(replace(facts, problems=(*facts.problems, *unread), version=str(self._version)))
        if text := str(self._troubles):
            self._publish_to.troubled(text)


def _texts(tags: Any) -> set[str]:
    return {str(tag) for tag in tags} if isinstance(tags, list | tuple) else set()


def _called(service: _Service) -> str:
    return f"{service.name}{f' of {service.datacenter}' if service.datacenter else ''}"
