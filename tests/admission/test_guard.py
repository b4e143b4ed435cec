"""What a workload lets in, asked with tokens and connections made here."""

from __future__ import annotations

import json

import jwt
from cryptography.hazmat.primitives.asymmetric import ec

from meshlib.admission import Guard
from meshlib.config.compile.attachment import Workload
from meshlib.config.resources import load_dict
from meshlib.dataplane.policies.rbac import Connection
from meshlib.dataplane.request import Request

KEY = ec.generate_private_key(ec.SECP256R1())
JWKS = json.dumps({"keys": [{**json.loads(jwt.algorithms.ECAlgorithm.to_jwk(KEY.public_key())), "kid": "one"}]})
NOW = 1_000_000.0
PLAINTEXT = Connection("10.0.0.1", "10.0.0.1", "10.0.0.2", 8080)
ALICE = Connection(
    "10.0.0.1",
    "10.0.0.1",
    "10.0.0.2",
    8080,
    tls=True,
    certificate=True,
    uri_sans=("spiffe://cluster.local/ns/shop/sa/alice",),
)


def policy(kind, name="p", **spec):
    return {
        "apiVersion": "security.istio.io/v1",
        "kind": kind,
        "metadata": {"name": name, "namespace": "shop"},
        "spec": spec,
    }


def guard(*objects, **options):
    resources = [resource for given in objects for resource in load_dict(given).resources]
    return Guard(resources, Workload("shop", {"app": "web"}), **options)


def request(path="/", method="GET", **headers):
    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return Request(method, "http", "web", 8080, path, raw)


def token(key=KEY, kid="one", **claims):
    return jwt.encode({"iss": "me", "sub": "you", **claims}, key, algorithm="ES256", headers={"kid": kid})


def believes(**rule):
    return policy("RequestAuthentication", jwtRules=[{"issuer": "me", "jwks": JWKS, **rule}])


def status(found, given, now=NOW):
    return found.admit(given, PLAINTEXT, now).status


def test_a_token_is_good_from_its_beginning_to_its_end_and_a_minute_around():
    found = guard(believes())
    given = request(authorization=f"Bearer {token(nbf=NOW, exp=NOW + 100)}")
    asked = [NOW - 61, NOW - 59, NOW + 159, NOW + 161]
    assert [status(found, given, moment) for moment in asked] == [401, 200, 200, 401]


def test_a_token_for_somebody_else_is_forbidden():
    found = guard(believes(audiences=["https://web/"]))
    assert status(found, request(authorization=f"Bearer {token(aud='other')}")) == 403
    assert status(found, request(authorization=f"Bearer {token(aud=['other', 'web'])}")) == 200


def test_a_token_that_nobody_vouches_for_is_refused_and_no_token_is_not():
    found = guard(believes())
    other = ec.generate_private_key(ec.SECP256R1())
    for bad in (token(key=other), token(kid="two"), token(iss="others"), "garbage", "a.b.c"):
        assert status(found, request(authorization=f"Bearer {bad}")) == 401
    assert status(found, request()) == 200


def test_tokens_are_found_where_the_rule_says_and_taken_out():
    found = guard(believes(fromHeaders=[{"name": "x-token"}], fromParams=["t"], fromCookies=["c"]))
    good = token()
    assert found.admit(request(x_token=good), PLAINTEXT, NOW).removed == ("x-token",)
    assert found.admit(request(f"/p?a=1&t={good}&b=2"), PLAINTEXT, NOW).path == "/p?a=1&b=2"
    assert status(found, request(cookie="a=b; c=bad")) == 401
    assert status(found, request(authorization="Bearer bad")) == 200


def test_keys_behind_a_url_are_handed_in():
    rule = policy("RequestAuthentication", jwtRules=[{"issuer": "me", "jwksUri": "https://me/keys"}])
    given = request(authorization=f"Bearer {token()}")
    assert status(guard(rule, keys={"https://me/keys": JWKS}.get), given) == 200
    assert status(guard(rule), given) == 401


def test_claims_decide_and_are_split_at_spaces():
    allow = policy(
        "AuthorizationPolicy", rules=[{"when": [{"key": "request.auth.claims[scope]", "values": ["write"]}]}]
    )
    found = guard(believes(), allow)
    assert status(found, request(authorization=f"Bearer {token(scope='read write')}")) == 200
    assert status(found, request(authorization=f"Bearer {token(scope='read')}")) == 403
    assert status(found, request()) == 403


def test_strict_mutual_tls_refuses_plaintext_before_any_request():
    found = guard(policy("PeerAuthentication", mtls={"mode": "STRICT"}))
    assert found.admit(request(), PLAINTEXT, NOW).status == 0
    assert found.admit(request(), ALICE, NOW).allowed
    assert not found.admit_connection(PLAINTEXT).allowed


def test_deny_is_asked_before_allow_and_the_answer_names_the_rule():
    allow = policy("AuthorizationPolicy", "allow", rules=[{}])
    deny = policy(
        "AuthorizationPolicy",
        "deny",
        action="DENY",
        rules=[
            {"to": [{"operation": {"methods": ["POST"]}}]},
            {"from": [{"source": {"notPrincipals": ["*"]}}]},
        ],
    )
    found = guard(allow, deny)
    assert found.admit(request(), ALICE, NOW).policy == "ns[shop]-policy[allow]-rule[0]"
    assert found.admit(request(method="POST"), ALICE, NOW).policy == "ns[shop]-policy[deny]-rule[0]"
    assert found.admit(request(), PLAINTEXT, NOW).policy == "ns[shop]-policy[deny]-rule[1]"


def test_a_path_is_normalized_before_policies_see_it():
    deny = policy("AuthorizationPolicy", action="DENY", rules=[{"to": [{"operation": {"paths": ["/admin*"]}}]}])
    assert status(guard(deny), request("/x/../admin/%61")) == 403


def test_a_preflight_needs_no_token():
    found = guard(believes())
    given = {"origin": "http://a", "access_control_request_method": "GET", "authorization": "Bearer bad"}
    assert status(found, request(method="OPTIONS", **given)) == 200


def test_what_only_an_external_authorizer_could_allow_is_refused():
    custom = policy(
        "AuthorizationPolicy",
        action="CUSTOM",
        provider={"name": "asker"},
        rules=[{"to": [{"operation": {"paths": ["/secret"]}}]}],
    )
    found = guard(custom)
    assert (status(found, request("/secret")), status(found, request("/open"))) == (403, 200)


def test_a_policy_on_trial_decides_nothing():
    deny = policy("AuthorizationPolicy", action="DENY", rules=[{}])
    deny["metadata"]["annotations"] = {"istio.io/dry-run": "true"}
    assert status(guard(deny), request()) == 200


def test_an_alias_of_the_trust_domain_is_as_good_as_the_domain():
    allow = policy(
        "AuthorizationPolicy", rules=[{"from": [{"source": {"principals": ["old.domain/ns/shop/sa/alice"]}}]}]
    )
    from meshlib.config.resources.mesh_config import MeshConfig

    mesh = MeshConfig.model_validate({"trustDomainAliases": ["old.domain"]})
    assert guard(allow, mesh=mesh).admit(request(), ALICE, NOW).allowed
    assert not guard(allow).admit(request(), ALICE, NOW).allowed
