"""TLS contexts do what the values say: whom they trust, whom they expect, what they refuse to send at all."""

from __future__ import annotations

import datetime
import socket
import ssl
import threading

import httpx
import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from meshlib.httpx import MeshTransport
from meshlib.model.policy import Tls, TlsMode
from meshlib.testing import ScriptedTransport, mesh_of
from meshlib.transport.tls import TlsContexts, TlsUnavailable
from tests.conftest import endpoint_slice, service


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    """A CA, and the file that its certificate lies in."""
    ca = trustme.CA()
    path = tmp_path_factory.mktemp("tls") / "ca.pem"
    ca.cert_pem.write_to_path(str(path))
    return ca, str(path)


def server_context(ca, *names, version=None):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert(*names).configure_cert(context)
    if version is not None:
        context.maximum_version = version
    return context


def over_sockets(client, server, name):
    """A handshake as threads make it."""
    ours, theirs = socket.socketpair()
    ours.settimeout(5)
    theirs.settimeout(5)

    def serve():
        try:
            server.wrap_socket(theirs, server_side=True).close()
        except OSError:
            theirs.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        client.wrap_socket(ours, server_hostname=name).close()
    finally:
        ours.close()
        thread.join(5)


def over_memory(client, server, name):
    """A handshake as event loops make it."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(to_client, to_server, server_hostname=name),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    for _ in range(20):
        for end in list(ends):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            ends.remove(end)
        if not ends:
            return
    raise AssertionError("no end")


@pytest.mark.parametrize("shake", [over_sockets, over_memory])
@pytest.mark.parametrize(
    ("settings", "passes"),
    [
        ({}, True),
        ({"subject_alt_names": ("other.example", "svc.example")}, True),
        ({"subject_alt_names": ("other.example",)}, False),
        ({"subject_alt_names": ("*.example",)}, False),
        ({"subject_alt_names": ("other.example",), "verify": False}, True),
    ],
)
def test_a_certificate_must_carry_one_of_the_names_exactly(authority, shake, settings, passes):
    ca, path = authority
    client = TlsContexts().get(Tls(TlsMode.SIMPLE, ca_certificates=path, **settings), http2=False)
    server = server_context(ca, "svc.example")
    if passes:
        shake(client, server, "svc.example")
    else:
        with pytest.raises(ssl.SSLCertVerificationError, match="wanted one of"):
            shake(client, server, "svc.example")


def test_the_host_is_checked_where_it_is_asked_for(authority):
    ca, path = authority
    server, tls = server_context(ca, "svc.example"), Tls(TlsMode.SIMPLE, ca_certificates=path)
    with pytest.raises(ssl.SSLCertVerificationError):
        over_memory(TlsContexts().get(tls, http2=False), server, "other.example")
    named = Tls(TlsMode.SIMPLE, ca_certificates=path, sni="other.example", verify_host=False)
    over_memory(TlsContexts().get(named, http2=False), server, "other.example")


def revoking(ca, *certificates):
    """A list of revoked certificates, signed by ``ca``, as PEM."""
    key = serialization.load_pem_private_key(ca.private_key_pem.bytes(), None)
    now = datetime.datetime.now(datetime.UTC)
    built = x509.CertificateRevocationListBuilder(
        x509.load_pem_x509_certificate(ca.cert_pem.bytes()).subject,
        now - datetime.timedelta(days=1),
        now + datetime.timedelta(days=1),
    )
    for each in certificates:
        serial = x509.load_pem_x509_certificate(each.cert_chain_pems[0].bytes()).serial_number
        revoked = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now).build()
        built = built.add_revoked_certificate(revoked)
    return built.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


@pytest.mark.parametrize("shake", [over_sockets, over_memory])
def test_a_revoked_certificate_is_refused_and_another_of_the_same_authority_is_not(authority, tmp_path, shake):
    ca, path = authority
    bad, good = ca.issue_cert("svc.example"), ca.issue_cert("svc.example")
    crl = tmp_path / "crl.pem"
    crl.write_bytes(revoking(ca, bad))
    client = TlsContexts().get(Tls(TlsMode.SIMPLE, ca_certificates=path, ca_crl=str(crl)), http2=False)
    for each, passes in ((good, True), (bad, False)):
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        each.configure_cert(server)
        if passes:
            shake(client, server, "svc.example")
        else:
            with pytest.raises(ssl.SSLCertVerificationError, match="revoked"):
                shake(client, server, "svc.example")


def test_a_missing_or_broken_list_of_revoked_certificates_is_told_and_nothing_is_sent(authority, tmp_path):
    broken = tmp_path / "broken.pem"
    broken.write_text("nothing")
    for path in (str(broken), str(tmp_path / "missing.pem")):
        with pytest.raises(TlsUnavailable, match="SIMPLE"):
            TlsContexts().get(Tls(TlsMode.SIMPLE, ca_certificates=authority[1], ca_crl=path))


def test_the_least_version_is_the_meshs(authority):
    ca, path = authority
    old = server_context(ca, "svc.example", version=ssl.TLSVersion.TLSv1_2)
    over_memory(TlsContexts().get(Tls(TlsMode.SIMPLE, ca_certificates=path), http2=False), old, "svc.example")
    newer = Tls(TlsMode.SIMPLE, ca_certificates=path, min_version="TLSV1_3")
    with pytest.raises(ssl.SSLError):
        over_memory(TlsContexts().get(newer, http2=False), old, "svc.example")


def test_ciphers_and_curve_are_the_meshs_and_unknown_ones_are_refused():
    wanted = "ECDHE-RSA-AES128-GCM-SHA256"
    tls = Tls(TlsMode.SIMPLE, cipher_suites=(wanted,), ecdh_curves=("P-256",))
    context = TlsContexts().get(tls, http2=False)
    old = [c["name"] for c in context.get_ciphers() if c["protocol"] != "TLSv1.3"]
    assert old == [wanted]
    for bad in (Tls(TlsMode.SIMPLE, cipher_suites=("NO",)), Tls(TlsMode.SIMPLE, ecdh_curves=("NO",))):
        with pytest.raises(TlsUnavailable):
            TlsContexts().get(bad, http2=False)


def test_what_cannot_be_had_is_not_sent_in_plaintext():
    with pytest.raises(TlsUnavailable, match="workloadSelector"):
        TlsContexts().get(Tls(TlsMode.SIMPLE, refused="only with a workloadSelector"), http2=False)
    with pytest.raises(TlsUnavailable):
        TlsContexts().get(Tls(TlsMode.SIMPLE, ca_certificates="/nowhere.pem"), http2=False)
    assert TlsContexts().get(Tls(), http2=False) is None


def test_a_thousand_endpoints_share_one_context(authority):
    _, roots = authority
    tls = f"{{mode: SIMPLE, sni: svc.example, caCertificates: '{roots}'}}"
    rule = f"""
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: svc}}
spec: {{host: svc, trafficPolicy: {{loadBalancer: {{simple: ROUND_ROBIN}}, tls: {tls}}}}}
"""
    addresses = [f"10.0.{number // 250}.{number % 250 + 1}" for number in range(1000)]
    slices = endpoint_slice("svc", "v1", *((address, 80) for address in addresses[:1]))
    listed = ", ".join(f"{{addresses: [{address}]}}" for address in addresses)
    slices = slices.replace(f"{{addresses: [{addresses[0]}]}}", listed)
    targets = []

    class Seeing(ScriptedTransport):
        def send(self, target, request):
            targets.append(target)
            return super().send(target, request)

    with (
        mesh_of(service("svc", 80), slices, rule, telemetry=False) as mesh,
        httpx.Client(transport=MeshTransport(mesh, transport=Seeing())) as client,
    ):
        for _ in addresses:
            assert client.get("http://svc/").status_code == 200
    assert len({target.address for target in targets}) == 1000
    assert len({id(target.tls) for target in targets}) == 1
    assert targets[0].tls is not None
