"""Secrets off the wire: what is taken, and what is refused as it comes."""

from __future__ import annotations

import pytest

pytest.importorskip("envoy.service.discovery.v3")

import trustme

from meshlib.model.policy import TlsMode
from meshlib.xds.decode import InvalidResource, cluster, secret
from meshlib.xds.messages import secret_pb2, tls_pb2
from tests.xds.secrets import certificate, context, roots, secured

CA = trustme.CA()
LEAF, OTHER = CA.issue_cert("web.example"), CA.issue_cert("other.example")


def wrong(message):
    with pytest.raises(InvalidResource) as told:
        secret(message)
    return [str(problem) for problem in told.value.problems]


def test_a_certificate_and_whom_to_trust_come_as_text():
    shown, trusted = secret(certificate("c", LEAF)).value, secret(roots("r", CA, "spiffe://td/ns/x/sa/y")).value
    assert shown.material.certificate.startswith(b"-----BEGIN CERTIFICATE")
    assert b"PRIVATE KEY" in shown.material.private_key
    assert trusted.material.roots == CA.cert_pem.bytes()
    assert trusted.names == ("spiffe://td/ns/x/sa/y",)


def test_or_as_names_of_files():
    made = secret_pb2.Secret(name="c")
    made.tls_certificate.certificate_chain.filename = "/cert.pem"
    made.tls_certificate.private_key.filename = "/key.pem"
    assert secret(made).value.files == ("/cert.pem", "/key.pem", "", "")


def test_what_cannot_be_used_is_refused_and_keys_are_never_told():
    foreign = certificate("c", LEAF)
    foreign.tls_certificate.private_key.inline_bytes = OTHER.private_key_pem.bytes()
    (mismatch,) = wrong(foreign)
    assert mismatch == "tls_certificate: cannot be used: KEY_VALUES_MISMATCH"
    garbage = roots("r", CA)
    garbage.validation_context.trusted_ca.inline_string = "no certificate"
    assert wrong(garbage)[0].startswith("validation_context.trusted_ca: cannot be used")
    alone = certificate("c", LEAF)
    alone.tls_certificate.ClearField("private_key")
    assert wrong(alone) == ["tls_certificate: needs a certificate and its key, both as text or both in files"]
    variable = certificate("c", LEAF)
    variable.tls_certificate.private_key.environment_variable = "KEY"
    assert wrong(variable)[0].startswith("tls_certificate.private_key: a control plane does not know")
    pinned = roots("r", CA)
    pinned.validation_context.verify_certificate_hash.append("00" * 32)
    assert wrong(pinned) == ["validation_context.verify_certificate_hash: cannot be checked"]
    assert wrong(secret_pb2.Secret(name="none")) == ["nothing is of no use to a client"]
    tickets = secret_pb2.Secret(name="t")
    tickets.session_ticket_keys.SetInParent()
    assert wrong(tickets) == ["session_ticket_keys is of no use to a client"]


def test_a_private_key_is_not_in_what_is_printed():
    assert "PRIVATE" not in repr(secret(certificate("c", LEAF)))


@pytest.mark.parametrize("agent", [False, True])
def test_a_cluster_names_its_secrets_and_who_has_them(agent):
    found = cluster(secured("a", context("default", "ROOTCA", agent=agent))).value
    assert tuple(found.secrets) == ("default", "ROOTCA", agent)
    assert found.cluster.tls.mode is TlsMode.ISTIO_MUTUAL
    own = cluster(secured("a", context("own", "own-cacert", agent=agent))).value
    assert (tuple(own.secrets), own.cluster.tls.mode) == (("own", "own-cacert", agent), TlsMode.MUTUAL)


def test_certificates_inside_a_cluster_are_taken():
    made = tls_pb2.UpstreamTlsContext()
    made.common_tls_context.tls_certificates.add().CopyFrom(certificate("c", LEAF).tls_certificate)
    made.common_tls_context.validation_context.CopyFrom(roots("r", CA).validation_context)
    tls = cluster(secured("a", made)).value.cluster.tls
    assert (tls.mode, tls.verify) == (TlsMode.MUTUAL, True)
    assert (tls.material.roots, tls.material.certificate) == (CA.cert_pem.bytes(), LEAF.cert_chain_pems[0].bytes())
