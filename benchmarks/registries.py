"""What a change in Consul or etcd costs: from the write to the next pick, in a mesh of a thousand services.

    python benchmarks/registries.py [services] [instances of each]; 1,000 and 20 by default

etcd is the real one (Debian's ``etcd-server``; left out where it is absent), Consul an agent that speaks its HTTP API
in a process of its own (``tests.providers.consul_agent``); the numbers hold their work, and the way over loopback, too.
Exits 1 when a median is above ``LIMIT_MS``. Needs a checkout.
"""

import json
import multiprocessing
import resource
import sys
import time
from pathlib import Path
from statistics import median

sys.path[:1] = [str(Path(__file__).resolve().parents[1] / part) for part in ("", "src")]

from tests.providers.consul_agent import ConsulAgent
from tests.providers.etcd_server import ETCD, EtcdServer

from meshlib import Mesh
from meshlib.dataplane.request import Request
from meshlib.providers import ConsulProvider, EtcdProvider

ROUNDS = 60
LIMIT_MS = 20.0


def address(service, number):
    return f"10.{service >> 8}.{service & 255}.{number}"


def members(mesh, host):
    """The addresses that a call may be sent to now, read off the picker that calls use."""
    request = Request("GET", "http", host, 80, "/", host=host)
    bound = mesh.prepared.host_of(request).routes[0]
    return {endpoint.endpoint.address for endpoint in bound.destinations[0].cluster.state.members}


def arrives(address, members):
    return address in members


def measure(what, provider, host, write, services, done=arrives):
    """Milliseconds from a write to the pick that sees it, and what else there is to tell."""
    started = time.perf_counter()
    with Mesh(provider, telemetry=False, ready_timeout=600) as mesh:
        mesh.ready()
        ready = time.perf_counter() - started
        time.sleep(3.0)
        used, found = sum(resource.getrusage(resource.RUSAGE_SELF)[:2]), []
        for number in range(ROUNDS):
            service, wanted = number * 7 % services, f"10.200.{number}.1"
            members(mesh, host(service))
            began = time.perf_counter()
            write(service, wanted)
            while not done(wanted, members(mesh, host(service))):
                time.sleep(0.0005)
                assert time.perf_counter() < began + 30, f"{what}: a change of service {service} was not seen"
            found.append(1000 * (time.perf_counter() - began))
            time.sleep(0.02)
        spent = sum(resource.getrusage(resource.RUSAGE_SELF)[:2]) - used
    found.sort()
    print(f"{what}: ready in {ready:.1f} s; from write to pick {median(found):.1f} ms in the median,", end=" ")
    print(f"{found[len(found) * 95 // 100]:.1f} ms in one of twenty; {1000 * spent / ROUNDS:.1f} ms of CPU for each")
    return median(found)


def consul_process(pipe, services, count):
    """An agent, and the writes that come by ``pipe``."""
    agent = ConsulAgent()
    for service in range(services):
        for number in range(count):
            agent.registry.register(f"s{service}", str(number), address(service, number + 1))
    pipe.send(agent.url)
    while (order := pipe.recv()) is not None:
        service, wanted, status = order
        agent.registry.register(f"s{service}", "0", wanted, status=status)
        pipe.send(True)


def consul(services, count, connections, fails):
    """With a connection for each service, or fewer; changes of an address, or of health."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=consul_process, args=(theirs, services, count))
    process.start()
    provider = ConsulProvider(ours.recv(), connections=connections)

    def write(service, wanted):
        ours.send((service, address(service, 1) if fails else wanted, "critical" if fails else "passing"))
        ours.recv()

    def leaves(_, found):
        return len(found) == count - 1

    what = f"Consul, {connections} connections, {'a check that fails' if fails else 'a new address'}"
    try:
        done = leaves if fails else arrives
        return measure(what, provider, lambda service: f"s{service}.service.consul", write, services, done)
    finally:
        ours.send(None)
        process.join()


def etcd(services, count):
    server = EtcdServer()

    def value(text):
        return json.dumps({"address": text, "port": 8080})

    try:
        keys = [(service, number) for service in range(services) for number in range(count)]
        server.put_all({f"/meshlib/services/s{s}/{n}": value(address(s, n + 1)) for s, n in keys})
        return measure(
            "etcd",
            EtcdProvider(server.url),
            lambda service: f"s{service}.etcd",
            lambda service, wanted: server.put(f"/meshlib/services/s{service}/0", value(wanted)),
            services,
        )
    finally:
        server.close()


def main():
    services, count = (int(text) for text in (*sys.argv[1:3], *("1000", "20")[len(sys.argv) - 1 :]))
    medians = [consul(services, count, services + 8, fails=False)]  # a few are kept for short reads
    for fails in (True, False):  # not bounded: the tests' agent scans all checks in Python, and seconds may pass
        consul(services, count, 100, fails=fails)
    if ETCD is not None:
        medians.append(etcd(services, count))
    sys.exit(max(medians) > LIMIT_MS)


if __name__ == "__main__":
    main()
