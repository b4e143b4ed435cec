"""EndpointSlices are kept small, and say what they said."""

from __future__ import annotations

import tracemalloc

from hypothesis import given
from hypothesis import strategies as st

from meshlib.config.resources import load_dict
from meshlib.config.resources.slice_endpoints import KnownEndpoint, Place, SliceEndpoints

_FLAGS = st.sampled_from([None, True, False])
_NAMES = st.sampled_from(["", "a", "b"])
_PLACES = st.builds(Place, _FLAGS, _FLAGS, _FLAGS, _NAMES, _NAMES, _NAMES, _NAMES)
_ADDRESSES = st.lists(st.sampled_from(["10.0.0.1", "10.0.0.2", "fd00::1"]), max_size=3).map(tuple)
_ROWS = st.lists(st.builds(KnownEndpoint, _ADDRESSES, _NAMES, _PLACES), max_size=6)


@given(_ROWS, _ROWS)
def test_what_is_kept_is_what_was_given(rows, others):
    kept = SliceEndpoints(rows)
    assert (list(kept), len(kept)) == (rows, len(rows))
    assert (kept == SliceEndpoints(others)) == (rows == others)
    assert hash(kept) == hash(SliceEndpoints(rows))


def read(number, rows):
    value = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": f"s{number}-abcde", "labels": {"kubernetes.io/service-name": f"s{number}"}},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
        "endpoints": rows,
    }
    (resource,) = load_dict(value).resources
    return resource


def test_it_is_dumped_as_it_stood_in_the_object():
    row = {
        "addresses": ["10.0.0.1"],
        "conditions": {"ready": False, "terminating": True},
        "targetRef": {"name": "p", "namespace": "default"},
        "nodeName": "n",
        "zone": "z",
        "hostname": "h",
    }
    assert read(0, [row, {"addresses": ["10.0.0.2"]}]).spec.model_dump(by_alias=True, exclude_unset=True)[
        "endpoints"
    ] == [row, {"addresses": ["10.0.0.2"]}]
    assert len(read(0, []).spec.known) == 0


def test_a_known_endpoint_costs_less_than_300_bytes():
    """The budget of the design, for slices of twenty with names as Deployments give them."""

    def rows(number):
        return [
            {
                "addresses": [f"10.{number >> 8}.{number & 255}.{each}"],
                "conditions": {"ready": True, "serving": True, "terminating": False},
                "targetRef": {"kind": "Pod", "name": f"s{number}-7d4b9c8f6d-{each:05}", "namespace": "default"},
                "nodeName": f"node-{each % 10}",
                "zone": f"zone-{each % 3}",
            }
            for each in range(20)
        ]

    read(0, rows(0))
    tracemalloc.start()
    kept = [read(number, rows(number)) for number in range(1, 201)]
    each = tracemalloc.get_traced_memory()[0] / (len(kept) * 20)
    tracemalloc.stop()
    assert each < 300, f"{each:.0f} bytes"
