"""Validation of TLS towards a destination."""

from __future__ import annotations

from meshlib.config.resources import destination_rule as api
from meshlib.config.validation.report import Report

__all__ = ["client_tls"]


_CONFIG_MAP = "configmap://"


def client_tls(report: Report, tls: api.ClientTLSSettings | None, path: str) -> None:
    """Files or a credential; in mode ISTIO_MUTUAL neither is looked at."""
    if tls is None:
        return
    _config_map(report, tls.credential_name, f"{path}.credentialName")
    if tls.mode not in (api.ClientTLSMode.SIMPLE, api.ClientTLSMode.MUTUAL):
        return
    mutual = tls.mode is api.ClientTLSMode.MUTUAL
    if tls.insecure_skip_verify:
        contradicts = tls.ca_certificates or tls.subject_alt_names or (tls.credential_name and not mutual)
        if contradicts:
            report.error(f"{path}.insecureSkipVerify", "nothing is verified, so CA and names mean nothing")
    if tls.credential_name:
        if tls.client_certificate or tls.private_key or tls.ca_certificates or tls.ca_crl:
            report.error(f"{path}.credentialName", "credentialName does not go with files of certificates")
    elif mutual:
        for name, value in (("clientCertificate", tls.client_certificate), ("privateKey", tls.private_key)):
            if not value:
                report.error(f"{path}.{name}", f"{name} is required in mode MUTUAL")


def _config_map(report: Report, name: str, path: str) -> None:
    if not name.startswith(_CONFIG_MAP):
        return
    namespace, slash, rest = name.removeprefix(_CONFIG_MAP).rpartition("/")
    own = report.resource.metadata.namespace
    if not rest or (slash and not namespace) or "/" in namespace:
        report.error(path, f"{name!r} is not of the form configmap://NAMESPACE/NAME")
    elif slash and own and namespace != own:
        report.error(path, f"a ConfigMap of namespace {namespace!r} cannot be used from {own!r}")
