"""What a control plane's changes cost: from its word to the next pick, and until a large mesh is ready.

``python benchmarks/control_plane.py [services] [endpoints of each]``; 1,000 and 20 by default. The control plane is
another process on the same machine (``tests.xds.control_plane``), so that the numbers hold its work and the way over
loopback too. Needs the extra ``meshlib[xds]`` and a checkout.
"""

import statistics
import sys
import time
from pathlib import Path

sys.path[:1] = [str(Path(__file__).resolve().parents[1] / part) for part in ("", "src")]

from tests.xds.planes import ControlPlane
from tests.xds.resources import cluster, endpoints, socket_listener, table

from meshlib import Mesh
from meshlib.dataplane.request import Request
from meshlib.providers import XdsProvider

NODE = "sidecar~127.0.0.1~web-1.shop~shop.svc.cluster.local"
ROUNDS = 100
LIMIT = 0.020


def name(number: int) -> str:
    return f"outbound|80||s{number}.shop.svc.cluster.local"


def addresses(number: int, count: int, first: int) -> object:
    return endpoints(name(number), *range(first, first + count), address=f"10.{number >> 8}.{number & 255}.1")


def resources(services: int, count: int) -> list:
    hosts = {f"s{number}.shop.svc.cluster.local": name(number) for number in range(services)}
    return [
        *(cluster(name(number)) for number in range(services)),
        *(addresses(number, count, 1000) for number in range(services)),
        socket_listener("0.0.0.0_80", 80, "80"),
        table("80", hosts, ignore_ports=True),
    ]


def picks(mesh: Mesh, host: str) -> set[int]:
    """The ports that a call may be sent to now, read off the picker that calls use."""
    request = Request("GET", "http", host, 80, "/", host=host)
    bound = mesh.prepared.host_of(request).routes[0]
    return {endpoint.endpoint.port for endpoint in bound.destinations[0].cluster.state.members}


def latency(plane: ControlPlane, mesh: Mesh, services: int, count: int) -> list[float]:
    """Seconds from before the control plane is told to the moment at which a call would see it."""
    found = []
    for number in range(ROUNDS):
        service = number * 7 % services
        host, first = f"s{service}.shop.svc.cluster.local", 2000 + number
        picks(mesh, host)
        message = addresses(service, count, first)
        started = time.perf_counter()
        plane.patch(message)
        while first not in picks(mesh, host) or 1000 in picks(mesh, host):
            time.sleep(0.0002)
        found.append(time.perf_counter() - started)
    return found


def main() -> int:
    services = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 20
    with ControlPlane() as plane:
        plane.serve(*resources(services, count))
        started = time.perf_counter()
        with Mesh(XdsProvider(plane.bootstrap(id=NODE)), telemetry=False) as mesh:
            mesh.ready(timeout=120)
            print(f"{services} services of {count} endpoints: ready after {time.perf_counter() - started:.2f} s")
            found = sorted(latency(plane, mesh, services, count))
    median, late = statistics.median(found), found[int(len(found) * 0.95)]
    print(
        f"a change of one service's endpoints, to the next pick: median {median * 1e3:.1f} ms, p95 {late * 1e3:.1f} ms"
    )
    print(f"limit: median {LIMIT * 1e3:.0f} ms")
    return 0 if median <= LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
