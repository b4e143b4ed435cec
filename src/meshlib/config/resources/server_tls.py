"""TLS of a server that Istio configures: of a Gateway's ports, and of a Sidecar's ingress listeners."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from meshlib.config.resources.base import Message, numbered, one_of

__all__ = ["ServerTLSMode", "ServerTLSSettings", "TLSCertificate", "TLSProtocol"]


class ServerTLSMode(StrEnum):
    """What is terminated, and whose certificate is asked for."""

    PASSTHROUGH = "PASSTHROUGH"
    SIMPLE = "SIMPLE"
    MUTUAL = "MUTUAL"
    AUTO_PASSTHROUGH = "AUTO_PASSTHROUGH"
    ISTIO_MUTUAL = "ISTIO_MUTUAL"
    OPTIONAL_MUTUAL = "OPTIONAL_MUTUAL"


class TLSProtocol(StrEnum):
    """Versions; ``TLS_AUTO`` leaves it to the proxy."""

    TLS_AUTO = "TLS_AUTO"
    TLSV1_0 = "TLSV1_0"
    TLSV1_1 = "TLSV1_1"
    TLSV1_2 = "TLSV1_2"
    TLSV1_3 = "TLSV1_3"


_Protocol = Annotated[TLSProtocol, numbered(*TLSProtocol)]


class TLSCertificate(Message):
    """A certificate in files."""

    server_certificate: str = ""
    private_key: str = ""
    ca_certificates: str = ""


class ServerTLSSettings(Message):
    """TLS of one port."""

    https_redirect: bool = False
    mode: Annotated[ServerTLSMode, numbered(*ServerTLSMode)] = ServerTLSMode.PASSTHROUGH
    server_certificate: str = ""
    private_key: str = ""
    ca_certificates: str = ""
    ca_crl: str = ""
    credential_name: str = ""
    credential_names: Annotated[list[str], Field(min_length=1)] = Field(default_factory=list)
    ca_cert_credential_name: str = ""
    tls_certificates: Annotated[list[TLSCertificate], Field(min_length=1)] = Field(default_factory=list)
    subject_alt_names: list[str] = Field(default_factory=list)
    verify_certificate_spki: list[str] = Field(default_factory=list)
    verify_certificate_hash: list[str] = Field(default_factory=list)
    min_protocol_version: _Protocol = TLSProtocol.TLS_AUTO
    max_protocol_version: _Protocol = TLSProtocol.TLS_AUTO
    cipher_suites: list[str] = Field(default_factory=list)
    insecure_skip_verify: bool | None = None

    _credentials = one_of("credential_name", "credential_names")
    _certificates = one_of("credential_names", "tls_certificates")
