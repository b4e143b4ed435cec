"""The resolver against a real server: families, TTLs, SRV, truncation, and every way of not answering."""

from __future__ import annotations

import asyncio

import pytest

from meshlib.dns.answers import LookupFailed, Target
from meshlib.dns.dnspython import DnsResolver
from meshlib.dns.hosts_file import HostsFile
from meshlib.dns.system import SystemResolver
from tests.dns.server import DRIP, GARBAGE, NXDOMAIN, SERVFAIL, SILENT, TRUNCATED, DnsServer

BOTH = frozenset({4, 6})


@pytest.fixture
def server():
    with DnsServer() as running:
        yield running


def ask(server, name, timeout=1.0, families=BOTH):
    resolver = DnsResolver([server.address], timeout=timeout, families=families, hosts=None)
    return asyncio.run(resolver.addresses(name))


def test_both_families_are_asked_for_and_the_shortest_ttl_counts(server):
    server.zone[("svc.test", "A")] = [(30, "10.0.0.1"), (30, "10.0.0.2")]
    server.zone[("svc.test", "AAAA")] = [(12, "2001:db8::1")]
    answer = ask(server, "svc.test")
    assert answer.values == ("10.0.0.1", "10.0.0.2", "2001:db8::1")
    assert answer.ttl == 12
    assert answer.missing == frozenset()


def test_a_family_without_a_route_is_not_asked_for(server):
    server.zone[("svc.test", "A")] = [(30, "10.0.0.1")]
    assert ask(server, "svc.test", families=frozenset({4})).values == ("10.0.0.1",)
    assert server.count("svc.test", "AAAA") == 0


def test_what_is_too_long_for_udp_is_asked_for_again_over_tcp(server):
    many = [(30, f"10.0.{n // 250}.{n % 250 + 1}") for n in range(400)]
    server.zone[("svc.test", "A")] = (TRUNCATED, many)
    server.zone[("svc.test", "AAAA")] = []
    assert len(ask(server, "svc.test", timeout=5.0).values) == 400
    assert {by for name, kind, by in server.asked if kind == "A"} == {"udp", "tcp"}


@pytest.mark.parametrize("said", [NXDOMAIN, []])
def test_a_name_that_stands_for_nothing_is_an_empty_answer(server, said):
    server.zone[("svc.test", "A")] = server.zone[("svc.test", "AAAA")] = said
    answer = ask(server, "svc.test")
    assert (answer.values, answer.ttl) == ((), None)


@pytest.mark.parametrize("said", [SERVFAIL, SILENT, GARBAGE, DRIP])
def test_no_answer_is_no_answer(server, said):
    server.zone[("svc.test", "A")] = server.zone[("svc.test", "AAAA")] = said
    with pytest.raises(LookupFailed, match="of svc"):
        ask(server, "svc.test", timeout=0.5)


def test_one_family_that_fails_leaves_the_other(server):
    server.zone[("svc.test", "A")] = [(30, "10.0.0.1")]
    server.zone[("svc.test", "AAAA")] = SERVFAIL
    answer = ask(server, "svc.test")
    assert (answer.values, answer.missing) == (("10.0.0.1",), frozenset({6}))


def test_one_family_that_fails_beside_an_empty_one_is_no_answer(server):
    server.zone[("svc.test", "A")] = []
    server.zone[("svc.test", "AAAA")] = SERVFAIL
    with pytest.raises(LookupFailed):
        ask(server, "svc.test", timeout=0.5)


def test_srv_records_with_port_priority_and_weight(server):
    server.zone[("_http._tcp.svc.test", "SRV")] = [(9, "1 20 8080 a.test."), (9, "0 5 8081 b.test.")]
    resolver = DnsResolver([server.address], hosts=None)
    answer = asyncio.run(resolver.targets("_http._tcp.svc.test"))
    assert set(answer.values) == {Target("a.test", 8080, 1, 20), Target("b.test", 8081, 0, 5)}
    assert answer.ttl == 9


def test_an_srv_target_of_a_dot_says_that_there_is_no_such_service(server):
    server.zone[("_http._tcp.svc.test", "SRV")] = [(9, "0 0 0 .")]
    assert asyncio.run(DnsResolver([server.address], hosts=None).targets("_http._tcp.svc.test")).values == ()


def test_the_hosts_file_comes_first_and_is_read_again_when_it_changes(server, tmp_path):
    path = tmp_path / "hosts"
    path.write_text("10.1.1.1 svc.test alias # comment\nnonsense svc.test\n::1 svc.test\n")
    resolver = DnsResolver([server.address], families=BOTH, hosts=path)
    assert asyncio.run(resolver.addresses("SVC.test.")).values == ("10.1.1.1", "::1")
    assert server.asked == []
    path.unlink()
    path.write_text("10.1.1.22 svc.test\n")
    assert asyncio.run(resolver.addresses("svc.test")).values == ("10.1.1.22",)
    path.unlink()
    assert HostsFile(path).addresses("svc.test") == ()


def test_the_system_knows_localhost_and_says_plainly_what_it_does_not_know():
    assert "127.0.0.1" in asyncio.run(SystemResolver().addresses("localhost")).values
    with pytest.raises(LookupFailed, match=r"meshlib\[dns\]"):
        asyncio.run(SystemResolver().targets("_http._tcp.svc.test"))
    with pytest.raises(LookupFailed):
        asyncio.run(SystemResolver().addresses("x" * 300))
