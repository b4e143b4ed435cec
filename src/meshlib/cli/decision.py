"""A decision as text: what happens first, then the rules, the destinations, and where each value stands."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.markup import escape

from meshlib.dataplane.decision import Decision, DecisionDestination, RuleVerdict
from meshlib.model.informed import BUILT_IN, PolicyValue

__all__ = ["blocks", "decision_lines", "place", "spelled"]

_RULES = 12
"""Rules shown in full; of longer lists the last ones before the match are."""
_ENDPOINTS = 6
_REMARKS = ("the rule is lent", "destination ", "backendRefs[", "mirror ", "filters of type", "no backend ")
"""How notes on a rule begin that no section shows."""
_COLOURS = {"route": "green", "redirect": "cyan", "direct_response": "cyan", "passthrough": "yellow", "none": "red"}


def decision_lines(given: Decision, method: str, url: str) -> Iterator[str]:
    """Lines in rich's markup."""
    flag = f" [red]{given.flag}[/]" if given.flag else ""
    colour = _COLOURS[given.action]
    outcome = given.action.replace("_", " ")
    yield f"[bold]{escape(method)} {escape(url)}[/]  ->  [{colour}]{outcome}[/]{flag}"
    yield f"  {escape(given.host)}:{given.port}, {_decider(given)}"
    yield from _section("", [("", line) for line in _answers(given)])
    yield from _section("destinations", list(_destinations(given)))
    yield from _section("rules", [_rule(verdict) for verdict in _worth_showing(given.rules)])
    yield from _section("values", list(_values(given)))
    yield from _section("also", [("", escape(line)) for line in _also(given)])


def _decider(given: Decision) -> str:
    if not given.resource:
        return "the default route" if given.action == "route" else "no rules of its own"
    rule = next((verdict.rule for verdict in given.rules if verdict.matches), "no rule")
    return f"{escape(given.resource)}, {escape(rule.removeprefix(f'{given.resource} '))}"


def _section(title: str, rows: Sequence[tuple[str, str]]) -> Iterator[str]:
    if rows and title:
        yield f"  [bold]{title}[/]"
    width = max((len(name) for name, _ in rows), default=0)
    for name, text in rows:
        yield f"    {escape(name.ljust(width))}  {text}" if width else f"    {text}"


def _answers(given: Decision) -> Iterator[str]:
    """What is answered here instead of being sent."""
    redirect, direct = given.details.get("redirect"), given.details.get("direct_response")
    if redirect is not None:
        yield f"{redirect['status']} to {escape(redirect['location'])}"
    if direct is not None:
        yield f"status {direct['status']}, body of {len(direct['body'])} characters"


# Rules --------------------------------------------------------------------------------------------------------------


def _worth_showing(rules: Sequence[RuleVerdict]) -> Sequence[RuleVerdict]:
    if len(rules) <= _RULES:
        return rules
    found = next((number for number, verdict in enumerate(rules) if verdict.matches), len(rules) - 1)
    start = max(0, found - _RULES + 2)
    shown = rules[start : found + 2]
    more = RuleVerdict("...", f"and {len(rules) - len(shown)} more that do not hold", tried=False)
    return [*shown, more]


def _rule(verdict: RuleVerdict) -> tuple[str, str]:
    if verdict.matches:
        return verdict.rule, f"[green]{verdict.verdict}[/]"
    return verdict.rule, escape(verdict.verdict) if verdict.tried else f"[dim]not tried: {escape(verdict.verdict)}[/]"


# Destinations -------------------------------------------------------------------------------------------------------


def _destinations(given: Decision) -> Iterator[tuple[str, str]]:
    for destination in given.destinations:
        subset = f" subset {destination.subset}" if destination.subset else ""
        name = f"{destination.host}:{destination.port}{subset}"
        share = f"{destination.weight:.4g}%"
        if not destination.exists:
            yield share, f"{escape(name)}  [red]does not exist[/]"
            continue
        where = _listed(destination.endpoints) or "[red]no endpoint[/]"
        yield share, f"{escape(name)}  {where}  [dim]{destination.load_balancer}, TLS {destination.tls}[/]"
        yield from (("", line) for line in _details(destination))


def _details(destination: DecisionDestination) -> Iterator[str]:
    reasons: dict[str, list[str]] = {}
    for key, why in destination.left_out:
        reasons.setdefault(why, []).append(key)
    for why, keys in reasons.items():
        yield f"[yellow]left out[/] {_listed(keys)}: {escape(why)}"
    used = [each for each in destination.priorities if each["percent"]]
    if len(used) > 1 or any(len(each["localities"]) > 1 for each in used):
        yield f"[dim]{escape('; '.join(map(_priority, used)))}[/]"
    if destination.live.get("breaker"):
        yield f"[red]refused:[/] {escape(destination.live['breaker'])}"
    if destination.live.get("panic"):
        yield "[red]panic:[/] too few endpoints are healthy, so all of them are used"
    busy = _busy(destination.live)
    if busy:
        yield f"[dim]now {busy}[/]"


def _listed(keys: Sequence[str]) -> str:
    more = f" and {len(keys) - _ENDPOINTS} more" if len(keys) > _ENDPOINTS else ""
    return escape(", ".join(keys[:_ENDPOINTS])) + more


def _priority(level: Mapping[str, Any]) -> str:
    parts = [f"{part['locality'] or 'anywhere'} {part['percent']:g}%" for part in level["localities"]]
    return f"priority {level['priority']} takes {level['percent']}%: {', '.join(parts)}"


def _busy(live: Mapping[str, Any]) -> str:
    words = (("requests", "requests"), ("retries", "retries"), ("connections", "connections"), ("pending", "waiting"))
    return ", ".join(f"{live[name]} {word}" for name, word in words if live.get(name))


# Values -------------------------------------------------------------------------------------------------------------


def _values(given: Decision) -> Iterator[tuple[str, str]]:
    """Each value with its origin; of Istio's own only timeout and retries, which everybody asks about."""
    details, origins = given.details, given.origins
    rows: list[tuple[str, str, str]] = []
    if given.action == "route":
        timeout, retries = details.get("timeout_s"), details.get("retries")
        rows.append(("timeout", "none" if timeout is None else f"{timeout:g} s", origins.get("timeout", BUILT_IN)))
        rows.append(("retries", _retries(retries), origins.get("retries", BUILT_IN)))
    rows.extend(_changes(given))
    for name, value, origin in _policies(given.destinations):
        rows.append((name, value, origin))
    width = max((len(value) for _, value, _ in rows if len(value) <= 30), default=0)
    for name, value, origin in rows:
        yield name, f"{escape(value.ljust(width))}  [dim]{escape(origin)}[/]"


def _retries(given: Mapping[str, Any] | None) -> str:
    if given is None:
        return "none"
    words = [word for word in given["retry_on"] if word != "retriable-status-codes"]
    words += [str(code) for code in given["status_codes"]]
    per_try = f", {given['per_try_timeout_s']:g} s each" if given["per_try_timeout_s"] is not None else ""
    return f"{given['attempts']}{per_try}, on {' '.join(words)}"


def _changes(given: Decision) -> Iterator[tuple[str, str, str]]:
    details, origins = given.details, given.origins
    fault = details.get("fault")
    if fault:
        yield "fault", _fault(fault), origins.get("fault", "")
    sent = next((each.sends for each in given.destinations if each.sends is not None), None)
    if details.get("rewrite") and sent is not None:
        yield "rewrite", f"{sent.authority} {sent.path}", origins.get("rewrite", origins.get("headers", ""))
    changed = _headers(given.destinations)
    if changed:
        yield "headers", changed, origins.get("headers", "")
    for mirror in details.get("mirrors", ()):
        subset = f" subset {mirror['subset']}" if mirror["subset"] else ""
        gone = "" if mirror["exists"] else ", which does not exist"
        text = f"{mirror['percentage']:g}% to {mirror['host']}:{mirror['port']}{subset}{gone}"
        yield "mirror", text, origins.get("mirror", origins.get("mirrors", ""))
    if details.get("hash_key"):
        yield "hash key", _hash_key(details["hash_key"]), ""
    if details.get("sticky_weights"):
        yield "weights drawn by", _sticky(details["sticky_weights"]), ""


def _fault(fault: Mapping[str, Any]) -> str:
    delay, abort = fault["delay"], fault["abort"]
    parts = [] if delay is None else [f"{delay['percentage']:g}% wait {delay['fixed_delay_s']:g} s"]
    if abort is not None:
        status = f"gRPC status {abort['grpc_status']}" if abort["http_status"] is None else abort["http_status"]
        parts.append(f"{abort['percentage']:g}% get {status}")
    return ", ".join(parts)


def _headers(destinations: Sequence[DecisionDestination]) -> str:
    found: dict[str, None] = {}
    for destination in destinations:
        for name, value in (destination.sends.changed if destination.sends is not None else {}).items():
            if not name.startswith("x-envoy-"):
                found[f"-{name}" if value is None else f"{name}: {value}"] = None
    return ", ".join(found)


def _hash_key(given: Mapping[str, Any]) -> str:
    sources = ", ".join(f"{each['source']} {each['name']}".strip() for each in given["sources"])
    state = "made up for this request" if given["generated"] else "in the request" if given["value"] else "absent"
    return f"{sources}, {state}"


def _sticky(given: Mapping[str, Any]) -> str:
    sources = ", ".join(f"{each['source']} {each['name']}".strip() for each in given["sources"])
    return f"{sources}, which stays with {given['cluster']}" if given["cluster"] else f"{sources}, absent: at random"


def _policies(destinations: Sequence[DecisionDestination]) -> Iterator[tuple[str, str, str]]:
    """What objects set, block by block; the same for several destinations is said once."""
    owners: dict[tuple[str, str, str], list[str]] = {}
    for destination in destinations:
        for (block, origin), values in blocks(destination.policy).items():
            key = (block, ", ".join(values), origin)
            owners.setdefault(key, []).append(destination.subset or destination.host)
    for (block, words, origin), names in owners.items():
        everywhere = len(names) == len(destinations)
        yield block if everywhere else f"{block} of {', '.join(names)}", words, origin


def blocks(policy: Sequence[PolicyValue]) -> dict[tuple[str, str], list[str]]:
    """(Block, its origin) -> values in words; values of one block may stand in several objects."""
    found: dict[tuple[str, str], list[str]] = {}
    for value in policy:
        if value.origin != BUILT_IN:
            block, _, rest = value.field.partition(".")
            origin = value.origin.removesuffix(f".{rest}")
            found.setdefault((block, origin), []).append(f"{rest} {spelled(value.field, value.value)}")
    return found


def spelled(field: str, value: Any) -> str:
    """A value as people write it."""
    if value is None:
        return "unlimited"
    seconds = field.lower().endswith(("timeout", "interval", "time", "duration"))
    if isinstance(value, float) and seconds:
        return f"{value:g}s"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def place(name: str) -> str:
    """``outbound|9080|v2|reviews.default...`` as ``reviews.default...:9080 v2``; other places as they are."""
    parts = name.split("|")
    if len(parts) != 4:
        return name
    host, space, state = parts[3].partition(" ")
    return f"{host}:{parts[1]}" + (f" {parts[2]}" if parts[2] else "") + space + state


def _also(given: Decision) -> Iterator[str]:
    """What a reader might overlook: who lost the host, and remarks that no section shows."""
    told = given.action in ("none", "passthrough") and not given.rules
    yield from (line for line in given.host_reasons if told or "passed over" in line)
    if told:
        yield from given.reasons[len(given.rules) :]
    yield from (line for line in given.reasons if line.startswith(_REMARKS) or "are answered with" in line)
