"""Validation of PeerAuthentication and RequestAuthentication. Source: Istio ``pkg/config/validation/validation.go``."""

from __future__ import annotations

import json
from typing import Any

from meshlib.config.resources import security as api
from meshlib.config.validation import primitives as check
from meshlib.config.validation.report import Report
from meshlib.config.validation.selectors import policy_target, workload_selector
from meshlib.model.jwks_uri import parse_jwks_uri

__all__ = ["peer_authentication", "request_authentication"]


def peer_authentication(report: Report, spec: api.PeerAuthenticationSpec) -> None:
    """Everything about a PeerAuthentication that one object shows."""
    workload_selector(report, spec.selector, "spec.selector")
    if spec.port_level_mtls and not (spec.selector and spec.selector.match_labels):
        report.error("spec.portLevelMtls", "ports are of workloads, so portLevelMtls needs a selector with labels")
    for number in spec.port_level_mtls:
        report.refuse(f"spec.portLevelMtls.{number}", check.port(number))


def request_authentication(report: Report, spec: api.RequestAuthenticationSpec) -> None:
    """Everything about a RequestAuthentication that one object shows."""
    policy_target(report, spec)
    for number, rule in enumerate(spec.jwt_rules):
        _jwt_rule(report, rule, f"spec.jwtRules[{number}]")


def _jwt_rule(report: Report, rule: api.JWTRule, path: str) -> None:
    if not rule.issuer and not rule.jwks_uri:
        report.error(f"{path}.issuer", "one of issuer and jwksUri is needed")
    if rule.jwks_uri and parse_jwks_uri(rule.jwks_uri) is None:
        report.error(f"{path}.jwksUri", f"{rule.jwks_uri!r} is not an http or https URL")
    if rule.jwks:
        _jwks(report, rule.jwks, f"{path}.jwks")
    if rule.timeout is not None:
        report.refuse(f"{path}.timeout", check.duration(rule.timeout))


def _jwks(report: Report, text: str, path: str) -> None:
    """A key, or a set of keys; those that should be secret are worth a word."""
    keys = _keys(text)
    if keys is None:
        report.error(path, "this is not a JSON Web Key, nor a set of them")
        return
    for number, key in enumerate(keys):
        if "d" in key or key.get("kty") == "oct":
            report.warn(path, f"key {number} holds a secret; only public keys are used, and everyone can read this")


_NEEDED = {"RSA": ("n", "e"), "EC": ("crv", "x", "y"), "OKP": ("crv", "x"), "oct": ("k",)}


def _keys(text: str) -> list[dict[str, Any]] | None:
    try:
        parsed = json.loads(text)
    except (ValueError, RecursionError):
        return None
    keys = parsed.get("keys", [parsed]) if isinstance(parsed, dict) else None
    if not isinstance(keys, list):
        return None
    whole = all(isinstance(key, dict) and _is_key(key) for key in keys)
    return keys if whole else None


def _is_key(key: dict[str, Any]) -> bool:
    needed = _NEEDED.get(str(key.get("kty")))
    return needed is not None and all(isinstance(key.get(name), str) for name in needed)
