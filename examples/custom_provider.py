"""A provider of your own: anything with a name and an async run(publish)."""

import asyncio
from collections.abc import Callable

from _peers import mesh_yaml, serve

from meshlib import Mesh, MeshClient
from meshlib.config.resources import load_text
from meshlib.providers import Facts


class Polling:
    """Asks a function for YAML every so often and publishes all of it."""

    name = "polling"

    def __init__(self, fetch: Callable[[], str], every: float) -> None:
        self.fetch = fetch
        self.every = every

    async def run(self, publish: Callable[[Facts], None]) -> None:
        while True:
            text = await asyncio.to_thread(self.fetch)
            loaded = load_text(text, self.name)
            publish(Facts(tuple(loaded.resources), tuple(loaded.problems)))
            await asyncio.sleep(self.every)


servers = [serve("first"), serve("second")]
current = mesh_yaml("reviews", v1=servers[0])
with Mesh(Polling(lambda: current, 0.02)) as mesh, MeshClient(mesh) as client:
    assert client.get("http://reviews:9080/").text == "first"
    current = mesh_yaml("reviews", v1=servers[1])
    answers = 0
    while client.get("http://reviews:9080/").text != "second":
        answers += 1
    print(f"the new endpoint took over after {answers} requests, none of which failed")
