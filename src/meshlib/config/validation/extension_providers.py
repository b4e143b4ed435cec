"""Validation of extension providers. A bad one is a warning: it matters only where something asks for it.

Source: Istio ``pkg/config/validation/agent/extensionprovider.go``.
"""

from __future__ import annotations

from collections.abc import Sequence

from meshlib.config.resources import extension_providers as api
from meshlib.config.resources.base import Message
from meshlib.config.validation import primitives as check
from meshlib.config.validation.report import Report
from meshlib.model.hosts import is_ip

__all__ = ["extension_providers"]

_Authorizer = api.EnvoyExternalAuthorizationHttpProvider | api.EnvoyExternalAuthorizationGrpcProvider


def extension_providers(report: Report, providers: Sequence[api.ExtensionProvider], path: str) -> None:
    """Every provider has a name of its own and exactly one set of settings."""
    names: set[str] = set()
    for number, provider in enumerate(providers):
        where = f"{path}[{number}]"
        if not provider.name:
            report.warn(f"{where}.name", "name is required")
        elif provider.name in names:
            report.warn(f"{where}.name", f"provider {provider.name!r} stands twice")
        names.add(provider.name)
        given = provider.given
        if len(given) != 1:
            report.warn(where, f"a provider has exactly one set of settings, this has {len(given)}")
        for name, settings in given.items():
            _settings(report, settings, f"{where}.{type(provider).model_fields[name].alias}")


def _settings(report: Report, settings: Message, path: str) -> None:
    if isinstance(settings, api.Served) and not isinstance(settings, api.SDSProvider):
        problem = _service(settings.service)
        if problem:
            report.warn(f"{path}.service", problem)
        if problem := check.port(settings.port):
            report.warn(f"{path}.port", problem)
    if isinstance(settings, _Authorizer):
        _authorizer(report, settings, path)
    if isinstance(settings, api.OpenTelemetryTracingProvider) and settings.http and settings.grpc:
        report.warn(path, "http and grpc exclude each other")
    if isinstance(settings, api.LightstepTracingProvider) and not settings.access_token:
        report.warn(f"{path}.accessToken", "accessToken is required")


def _authorizer(report: Report, settings: _Authorizer, path: str) -> None:
    status = settings.status_on_error
    if status and not (status.isdigit() and 100 <= int(status) <= 599):
        report.warn(f"{path}.statusOnError", f"{status!r} is not an HTTP status")
    prefix = settings.path_prefix if isinstance(settings, api.EnvoyExternalAuthorizationHttpProvider) else ""
    if prefix and not prefix.startswith("/"):
        report.warn(f"{path}.pathPrefix", f"{prefix!r} does not begin with '/'")


def _service(text: str) -> str | None:
    """``host``, ``address`` or ``namespace/host``."""
    if not text:
        return "service is required"
    if "/" in text:
        return check.namespaced_host(text)
    return None if is_ip(text) else check.fqdn(text)
