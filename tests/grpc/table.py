"""What each row of the conformance table is asked in: one stack, one shape, one kind of channel, real servers."""

from __future__ import annotations

import contextlib
import json
import random
from collections import Counter
from collections.abc import Iterator
from typing import Any

from meshlib import Mesh
from meshlib.testing import mesh_of
from tests.grpc.channels import CHANNELS
from tests.grpc.colours import KINDS, Done, Loop, Open, Threads
from tests.grpc.peers import Peer, world

RULE = """
apiVersion: networking.istio.io/v1
kind: {kind}
metadata: {{name: reviews}}
spec:
{spec}
"""


def virtual_service(*rules: str) -> str:
    """Of reviews, with these rules, each a flow mapping."""
    http = "".join(f"  - {rule}\n" for rule in rules)
    return RULE.format(kind="VirtualService", spec=f"  hosts: [reviews]\n  http:\n{http}")


def destination_rule(
    policy: str = "{connectionPool: {http: {http2MaxRequests: 1000}}}", subsets: str = "v1 v2 v3"
) -> str:
    """Of reviews, with a traffic policy as a flow mapping."""
    named = "".join(f"  - {{name: {name}, labels: {{version: {name}}}}}\n" for name in subsets.split())
    spec = f"  host: reviews\n  trafficPolicy: {policy}\n  subsets:\n{named}"
    return RULE.format(kind="DestinationRule", spec=spec)


def client_policy(spec: str) -> str:
    """Of reviews; ``spec`` are the items of a flow mapping."""
    return (
        "apiVersion: meshlib.dev/v1alpha1\nkind: ClientPolicy\n"
        f"metadata: {{name: reviews}}\nspec: {{hosts: [reviews], {spec}}}\n"
    )


def to(*subsets: str) -> str:
    """A route, ``v1`` or ``v1:30 v2:70``, as the item of a flow mapping."""
    parts = []
    for each in " ".join(subsets).split():
        name, _, weight = each.partition(":")
        subset = f", subset: {name}" if name != "all" else ""
        parts.append(f"{{destination: {{host: reviews{subset}}}, weight: {weight or 100}}}")
    return f"route: [{', '.join(parts)}]"


class Table:
    """One cell's surroundings.

    Args:
        stack: Threads or an event loop.
        shape: ``UnaryUnary`` and kin.
        channel: Name of the kind of channel.
        peers: The servers.
    """

    def __init__(self, stack: Threads | Loop, shape: str, channel: str, peers: dict[str, Peer]) -> None:
        self.stack = stack
        self.shape = shape
        self.kind = KINDS[shape]
        self.channel = channel
        self.peers = peers
        self.mesh: Mesh

    @property
    def streams(self) -> bool:
        """Whether responses are a stream."""
        return self.shape.endswith("Stream")

    @contextlib.contextmanager
    def over(self, *yaml: str, of: str = "v1 v2", target: str = "", **options: Any) -> Iterator[Table]:
        """A channel over a mesh of these servers and rules."""
        servers = [self.peers[name] for name in of.split()]
        given = {"telemetry": False, "rng": random.Random(7), **options}
        base = world(*servers) if servers else ""
        with mesh_of(*(part for part in (base, *yaml) if part), **given) as self.mesh:
            make = CHANNELS[self.channel]
            port = servers[0].port if servers else 1
            with self.stack.client(lambda: make(self.mesh, self.stack.aio, port, target)) as self.made:
                yield self

    def multi(self, service: str) -> Any:
        """What invokes the method of this shape of a service."""
        made = getattr(self.made, self.kind)
        return self.stack.run(lambda: made(f"/{service}/{self.shape}"))

    def ask(
        self, *metadata: tuple[str, str], service: str = "test.S", requests: tuple[bytes, ...] = (), **options: Any
    ) -> Done:
        """A whole RPC; responses are read as JSON."""
        given = requests or ((b"a", b"bc", b"def") if self.shape.startswith("Stream") else (b"a",))
        done = self.stack.ask(self.multi(service), self.kind, given, metadata=metadata, **options)
        return done._replace(responses=[json.loads(response) for response in done.responses])

    def open(self, *metadata: tuple[str, str], service: str = "test.S", **options: Any) -> Open:
        """An RPC under way; all requests are sent."""
        opened = self.stack.open(self.multi(service), self.kind, (b"a",), metadata=metadata, **options)
        if self.shape.startswith("Stream"):
            opened.done_writing()
        return opened

    def names(self, count: int, *metadata: tuple[str, str], **options: Any) -> Counter[str]:
        """Who answered so many RPCs."""
        found: Counter[str] = Counter()
        for _ in range(count):
            done = self.ask(*metadata, **options)
            found[done.responses[0]["name"] if done.responses else done.code.name] += 1
        return found

    def seen(self) -> dict[str, int]:
        """How many RPCs each server saw."""
        counts = {name: len(peer.seen) for name, peer in self.peers.items()}
        return {name: count for name, count in counts.items() if count}

    def under_way(self) -> int:
        """What the mesh holds permits for."""
        return sum(cluster.active + cluster.retries for cluster in self.mesh.state.clusters())
