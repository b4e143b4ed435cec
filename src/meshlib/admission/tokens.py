"""Which tokens of a request are believed, and what the application gets to see of them.

Source: Istio RequestAuthentication, Envoy's JWT filter: a request without a token passes; one with a token passes when
some rule accepts a token that it finds; what a rule does not accept is 401, a wrong audience 403. Signatures are
checked by PyJWT (extra ``server``).
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from meshlib.config.resources.security import JWTRule
from meshlib.dataplane.request import Request

__all__ = ["Keys", "Refused", "Token", "believe"]

SKEW = 60.0
"""Seconds by which clocks may differ (Envoy's default)."""

_ALWAYS_SPLIT = ("scope", "permission")
_ALGORITHMS = ["RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "PS256", "PS384", "PS512", "EdDSA"]

Keys = Callable[[str], str]
"""The key set behind a URL (or, for an issuer, behind its discovery document), as JSON; ``""`` when it is not known."""


class Refused(Exception):
    """A token is not believed.

    Attributes:
        status: 401, or 403 for a token that is meant for somebody else.
    """

    def __init__(self, message: str, status: int = 401) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Token:
    """A token that was believed.

    Attributes:
        claims: As policies see them: space-delimited claims are lists.
        set_headers: What the application gets to see of it.
        removed: Headers that are not handed on.
        removed_params: Query parameters that are not handed on.
    """

    claims: Mapping[str, Any]
    set_headers: tuple[tuple[str, str], ...] = ()
    removed: tuple[str, ...] = ()
    removed_params: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Found:
    text: str
    header: str = ""
    param: str = ""


@dataclass(slots=True)
class _Verdicts:
    accepted: list[Token] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)


def believe(rules: Sequence[JWTRule], request: Request, now: float, keys: Keys) -> list[Token]:
    """The tokens that some rule accepts; none when the request carries none.

    Args:
        rules: Of all RequestAuthentications of the workload.
        request: What came in.
        now: Unix time.
        keys: For rules whose keys are not given inline.

    Raises:
        Refused: There is a token, and no rule accepts one.
        ImportError: PyJWT is not installed.
    """
    verdicts = _Verdicts()
    for rule in rules:
        for found in _find(rule, request):
            try:
                accepted = _verify(rule, found, now, keys)
            except Refused as error:
                verdicts.refused.append(error)
            else:
                if accepted is not None:
                    verdicts.accepted.append(accepted)
    if verdicts.accepted or not any(True for rule in rules for _ in _find(rule, request)):
        return verdicts.accepted
    raise next(iter(verdicts.refused), Refused("the token's issuer is not one that this workload trusts"))


def _find(rule: JWTRule, request: Request) -> Iterable[_Found]:
    given = bool(rule.from_headers or rule.from_params or rule.from_cookies)
    headers = [(each.name, each.prefix) for each in rule.from_headers] if given else [("authorization", "Bearer ")]
    params = rule.from_params if given else ["access_token"]
    for name, prefix in headers:
        value = request.header(name.lower())
        if value is not None and prefix in value:
            yield _Found(value.partition(prefix)[2].strip() if prefix else value.strip(), header=name.lower())
    query = dict(parse_qsl(request.path.partition("?")[2]))
    for name in params:
        if name in query:
            yield _Found(query[name], param=name)
    pairs = (item.strip().partition("=") for item in (request.header("cookie") or "").split(";"))
    cookies = {name: value for name, _, value in pairs}
    for name in rule.from_cookies:
        if name in cookies:
            yield _Found(cookies[name])


def _verify(rule: JWTRule, found: _Found, now: float, keys: Keys) -> Token | None:
    """None where the token is another issuer's, which is no matter of this rule."""
    try:
        import jwt
    except ImportError:
        raise ImportError("checking tokens needs PyJWT: install meshlib[server]") from None
    try:
        claims = jwt.decode(found.text, options={"verify_signature": False})
        if rule.issuer and claims.get("iss") != rule.issuer:
            return None
        signed_by = _key(rule, jwt.get_unverified_header(found.text), keys)
        jwt.decode(found.text, signed_by, algorithms=_ALGORITHMS, options=_ONLY_SIGNATURE)
    except jwt.PyJWTError as error:
        raise Refused(f"the token is not valid: {error}") from None
    _check_times(claims, now)
    _check_audience(rule, claims)
    return Token(
        _as_seen(rule, claims),
        tuple(_outputs(rule, found, claims)),
        () if rule.forward_original_token or not found.header else (found.header,),
        () if rule.forward_original_token or not found.param else (found.param,),
    )


_ONLY_SIGNATURE: Any = {
    "verify_signature": True,
    **dict.fromkeys(("verify_exp", "verify_nbf", "verify_iat", "verify_aud", "verify_iss"), False),
}


def _key(rule: JWTRule, header: Mapping[str, Any], keys: Keys) -> Any:
    import jwt

    text = rule.jwks or keys(rule.jwks_uri or rule.issuer)
    if not text:
        raise Refused("the keys of the token's issuer are not known")
    wanted = header.get("kid")
    for key in jwt.PyJWKSet.from_json(text).keys:
        if wanted is None or key.key_id == wanted:
            return key
    raise Refused(f"no key has the id {wanted!r}")


def _check_times(claims: Mapping[str, Any], now: float) -> None:
    ends, begins = claims.get("exp"), claims.get("nbf")
    if isinstance(ends, int | float) and now > ends + SKEW:
        raise Refused(f"the token ended at {ends:.0f}, and it is {now:.0f}")
    if isinstance(begins, int | float) and now < begins - SKEW:
        raise Refused(f"the token begins at {begins:.0f}, and it is {now:.0f}")


def _check_audience(rule: JWTRule, claims: Mapping[str, Any]) -> None:
    if not rule.audiences:
        return
    given = claims.get("aud") or []
    meant = {_bare(text) for text in ([given] if isinstance(given, str) else given)}
    if meant.isdisjoint(map(_bare, rule.audiences)):
        raise Refused("the token is meant for another audience", 403)


def _bare(audience: str) -> str:
    """An audience without scheme and trailing slash, which do not count."""
    return audience.removeprefix("https://").removeprefix("http://").removesuffix("/")


def _as_seen(rule: JWTRule, claims: Mapping[str, Any]) -> dict[str, Any]:
    split = {*_ALWAYS_SPLIT, *rule.space_delimited_claims}
    return {
        name: value.split(" ") if name in split and isinstance(value, str) else value for name, value in claims.items()
    }


def _outputs(rule: JWTRule, found: _Found, claims: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    if rule.output_payload_to_header:
        payload = found.text.split(".")[1].rstrip("=")
        yield rule.output_payload_to_header.lower(), payload
    for output in rule.output_claim_to_headers:
        value = _claim(claims, output.claim)
        if isinstance(value, bool):
            yield output.header.lower(), "true" if value else "false"
        elif isinstance(value, str | int):
            yield output.header.lower(), str(value)
        elif isinstance(value, dict | list):
            text = json.dumps(value, separators=(",", ":")).encode()
            yield output.header.lower(), base64.b64encode(text).decode()


def _claim(claims: Mapping[str, Any], path: str) -> Any:
    """A claim by name, or a nested one by names joined with dots."""
    if path in claims:
        return claims[path]
    value: Any = claims
    for name in path.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return value
