"""Mesh channels at the edges: TLS towards endpoints, forked children, what grpcio cannot do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import grpc
import pytest
import trustme

import meshlib.grpc
from meshlib import errors
from meshlib.testing import mesh_of
from tests.grpc.colours import STACKS
from tests.grpc.peers import ROOT, world
from tests.grpc.test_channel_policies import Client, eventually, policy

CODES = grpc.StatusCode


@pytest.fixture(params=STACKS, ids=lambda stack: stack.name)
def stack(request):
    return request.param()


class WhoAsks(grpc.GenericRpcHandler):
    """Tells the client's certificate names and the authority of the call."""

    def service(self, details):
        def answer(request, context):
            names = [name.decode() for name in context.auth_context().get("x509_subject_alternative_name", ())]
            return json.dumps({"names": names}).encode()

        return grpc.unary_unary_rpc_method_handler(answer)


@pytest.fixture
def secure(tmp_path):
    """A server that wants a client certificate, and the files of both sides."""
    authority = trustme.CA()
    files = SimpleNamespace(
        ca=tmp_path / "ca.pem", cert=tmp_path / "cert.pem", key=tmp_path / "key.pem", made=authority
    )
    authority.cert_pem.write_to_path(str(files.ca))
    renew(files, "one.client")
    own = authority.issue_cert("reviews.example")
    key, chain = own.private_key_pem.bytes(), own.cert_chain_pems[0].bytes()
    credentials = grpc.ssl_server_credentials([(key, chain)], authority.cert_pem.bytes(), True)
    server = grpc.server(ThreadPoolExecutor(4), handlers=[WhoAsks()])
    files.name, files.port = "v1", server.add_secure_port("127.0.0.1:0", credentials)
    server.start()
    yield files
    server.stop(None)


def renew(files, name):
    own = files.made.issue_cert(name)
    own.private_key_pem.write_to_path(str(files.key))
    files.cert.write_bytes(own.cert_chain_pems[0].bytes())


def tls(files, **more):
    settings = {
        "mode": "MUTUAL",
        "caCertificates": str(files.ca),
        "clientCertificate": str(files.cert),
        "privateKey": str(files.key),
        "sni": "reviews.example",
        "subjectAltNames": ["reviews.example"],
    }
    return policy({"trafficPolicy": {"tls": {**settings, **more}}})


SKIPPED = {"insecureSkipVerify": True, "caCertificates": "", "subjectAltNames": []}


def asking(stack, mesh):
    make = meshlib.grpc.aio.mesh_channel if stack.aio else meshlib.grpc.mesh_channel
    return stack.client(lambda: make("reviews:9080", mesh))


def test_endpoints_are_reached_by_the_tls_of_the_configuration(stack, secure):
    with mesh_of(world(secure) + "---\n" + tls(secure), telemetry=False) as mesh, asking(stack, mesh) as channel:
        done = Client(stack, channel, mesh).ask()
    assert json.loads(done.responses[0])["names"] == ["one.client"]


def test_renewed_certificates_are_for_new_channels_and_nobody_fails(stack, secure, monkeypatch):
    monkeypatch.setattr("meshlib.grpc.ways._CHECKED_EVERY", 0.0)
    with mesh_of(world(secure) + "---\n" + tls(secure), telemetry=False) as mesh, asking(stack, mesh) as channel:
        client = Client(stack, channel, mesh)
        assert json.loads(client.ask().responses[0])["names"] == ["one.client"]
        renew(secure, "two.client")
        os.utime(secure.cert, ns=(1, 1))
        assert eventually(lambda: json.loads(client.ask().responses[0])["names"] == ["two.client"])


def test_a_certificate_for_another_name_is_not_trusted(stack, secure):
    rules = tls(secure, sni="other.example", subjectAltNames=[])
    with mesh_of(world(secure) + "---\n" + rules, telemetry=False) as mesh, asking(stack, mesh) as channel:
        done = Client(stack, channel, mesh).ask()
    assert (done.code, isinstance(done.error, errors.ConnectFailure)) == (CODES.UNAVAILABLE, True)


@pytest.mark.parametrize("beyond", [SKIPPED, {"subjectAltNames": ["a.example", "b.example"]}])
def test_what_grpcio_cannot_check_is_refused_and_nothing_is_sent(stack, secure, beyond):
    rules = tls(secure, **beyond)
    with mesh_of(world(secure) + "---\n" + rules, telemetry=False) as mesh, asking(stack, mesh) as channel:
        done = Client(stack, channel, mesh).ask()
    assert (done.code, isinstance(done.error, errors.ConnectFailure)) == (CODES.UNAVAILABLE, True)
    assert "gRPC channels" in done.details


FORKED = """
import json, os, sys
from meshlib.testing import mesh_of
from meshlib.grpc import mesh_channel
mesh = mesh_of(sys.stdin.read(), telemetry=False)
mesh.ready()
channel = mesh_channel("reviews:9080", mesh)
call = channel.unary_unary("/test.S/UnaryUnary")
ask = lambda: json.loads(call(b"x", timeout=20, wait_for_ready=True))["name"]
before = ask() if {used} else None
child = os.fork()
if not child:
    answer = 1
    try:
        answer = int(ask() != "v1")
    finally:
        os._exit(answer)
_, status = os.waitpid(child, 0)
print(os.waitstatus_to_exitcode(status), ask(), flush=True)
os._exit(0)
"""


@pytest.mark.parametrize("used", [False, True], ids=["before-the-first-rpc", "after-it"])
def test_a_forked_child_makes_channels_of_its_own(peers, used):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])}
    environment["GRPC_ENABLE_FORK_SUPPORT"] = "1"
    program = textwrap.dedent(FORKED).replace("{used}", str(used))
    done = subprocess.run(
        [sys.executable, "-c", program],
        input=world(peers["v1"]),
        capture_output=True,
        text=True,
        timeout=50,
        env=environment,
    )
    assert done.stdout.split() == ["0", "v1"], done.stderr
