"""The commands and their options; what they print stands in ``show``."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from meshlib.cli import show
from meshlib.cli.size import size_command
from meshlib.errors import MeshError

__all__ = ["meshlib"]

F = TypeVar("F", bound=Callable[..., Any])

UNUSABLE = 2
_SILENCE = logging.NullHandler()


if TYPE_CHECKING:
    _Text = click.ParamType[str]
else:  # older versions are not generic
    _Text = click.ParamType


class _Source(_Text):
    """A path or URL, any number of them in the environment."""

    name = "source"

    def split_envvar_value(self, rv: str) -> list[str]:
        from meshlib.providers.urls import split

        return split(rv)


def _mesh_options(function: F) -> F:
    """What every command that reads a configuration takes; each has an environment variable too."""
    for option in (
        click.option(
            "--nameservers",
            default="",
            envvar="MESHLIB_NAMESERVERS",
            help="DNS servers for names: address:port,address. By default the system's.",
        ),
        click.option("--strict", is_flag=True, envvar="MESHLIB_STRICT", help="Refuse unknown fields."),
        click.option("--labels", default="", envvar="MESHLIB_LABELS", help="The caller's labels, k=v,k=v."),
        click.option("--namespace", default="default", envvar="MESHLIB_NAMESPACE", help="The caller's namespace."),
        click.option(
            "--config",
            "paths",
            multiple=True,
            required=True,
            type=_Source(),
            envvar="MESHLIB_CONFIG",
            help="File or folder of YAML, or a URL: consul://host:8500, dns:host:port, etcd://host:2379, xds:...",
        ),
    ):
        function = option(function)
    return function


_output = click.option("--output", type=click.Choice(["text", "json"]), default="text", help="For people or programs.")
_request = (
    click.option("-H", "--header", "headers", multiple=True, help="'Name: value', as often as needed."),
    click.option("-X", "--method", default="GET", help="HTTP method."),
)


def _request_options(function: F) -> F:
    for option in _request:
        function = option(function)
    return function


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="meshlib")
def meshlib() -> None:
    """A client-side service mesh: Istio's traffic rules inside the process."""


meshlib.add_command(size_command)


@meshlib.command()
@click.argument("url")
@click.option("--sni", default=None, help="TLS server name of a raw connection (tls://host:port).")
@_request_options
@_mesh_options
@_output
def explain(
    url: str,
    sni: str | None,
    method: str,
    headers: tuple[str, ...],
    paths: tuple[str, ...],
    namespace: str,
    labels: str,
    strict: bool,
    nameservers: str,
    output: str,
) -> None:
    """Say where a request would go, and why. Nothing is sent.

    URL is http://, https://, or for a raw connection tcp://host:port or tls://host:port.
    """
    with _mesh(paths, namespace, labels, strict, nameservers) as mesh:
        decision = _usable(lambda: mesh.explain(method, url, _headers(headers), sni=sni))
        problems = mesh.problems
    if output == "json":
        click.echo(json.dumps(decision.to_dict(), indent=2))
    else:
        show.decision(decision, "CONNECT" if url.startswith(("tcp:", "tls:")) else method, url)
    show.problems(problems)
    sys.exit(1 if decision.action == "none" else 0)


@meshlib.command()
@click.argument("url")
@_request_options
@click.option("-d", "--data", default=None, help="Request body.")
@click.option("-v", "--verbose", is_flag=True, help="Show the decision, each attempt and the timing.")
@click.option("--timeout", type=float, default=30.0, help="Seconds for each socket operation.")
@_mesh_options
def call(
    url: str,
    method: str,
    headers: tuple[str, ...],
    data: str | None,
    verbose: bool,
    timeout: float,
    paths: tuple[str, ...],
    namespace: str,
    labels: str,
    strict: bool,
    nameservers: str,
) -> None:
    """Send a request through the mesh and print the answer, as curl does."""
    import httpx

    from meshlib.cli.attempts import Attempts
    from meshlib.client import MeshClient

    with _mesh(paths, namespace, labels, strict, nameservers) as mesh:
        _usable(mesh.wait_ready)
        show.problems(mesh.problems)
        if verbose:
            decision = _usable(lambda: mesh.explain(method, url, _headers(headers)))
            show.decision(decision, method, url)
            mesh.observer = Attempts(mesh.observer, show.attempt, show.call)
        with MeshClient(mesh, timeout=timeout) as client:
            try:
                response = client.request(method, url, headers=_headers(headers), content=data)
            except (httpx.HTTPError, MeshError) as error:
                show.failure(error)
                sys.exit(1)
        show.response(response, verbose=verbose)


@meshlib.group()
def config() -> None:
    """Show what a configuration was compiled to."""


def _config_command(name: str, help_text: str) -> None:
    @config.command(name, help=help_text)
    @_mesh_options
    @click.option("--live", is_flag=True, help="Wait for every source and DNS name first, and say how each is doing.")
    @click.option("--timeout", type=float, default=10.0, help="Seconds to wait at most.")
    @_output
    def command(
        paths: tuple[str, ...],
        namespace: str,
        labels: str,
        strict: bool,
        nameservers: str,
        live: bool,
        timeout: float,
        output: str,
    ) -> None:
        from meshlib.cli import dump
        from meshlib.cli.live import settled

        with _mesh(paths, namespace, labels, strict, nameservers) as mesh:
            _usable(lambda: mesh.ready(timeout=timeout))
            settling = settled(mesh, timeout) if live else {}
            rows = getattr(dump, name)(mesh.snapshot)
            problems = mesh.problems
        if output == "json" or name == "dump":
            whole = rows if name == "dump" else {name: rows}
            click.echo(json.dumps({**whole, **settling} if live else rows, indent=2))
        else:
            show.table(name, rows)
            for title, told in settling.items():
                show.table(title, told)
        show.problems(problems)


for _name, _help in (
    ("routes", "Every rule of every host, in order."),
    ("clusters", "Every cluster that a rule leads to, with its policies."),
    ("endpoints", "The endpoints of every cluster."),
    ("dump", "All of that, as JSON."),
):
    _config_command(_name, _help)


@meshlib.command()
@click.argument("old")
@click.argument("new")
@click.option(
    "--traffic", "recordings", multiple=True, help="Recorded requests: JSON lines, access log, HAR; - is stdin."
)
@click.option("--config", "shared", multiple=True, help="Files or folders that both sides have in common.")
@click.option("--namespace", default="default", envvar="MESHLIB_NAMESPACE", help="The caller's namespace.")
@click.option("--labels", default="", envvar="MESHLIB_LABELS", help="The caller's labels, k=v,k=v.")
@click.option("--strict", is_flag=True, envvar="MESHLIB_STRICT", help="Refuse unknown fields.")
@_output
def diff(
    old: str,
    new: str,
    recordings: tuple[str, ...],
    shared: tuple[str, ...],
    namespace: str,
    labels: str,
    strict: bool,
    output: str,
) -> None:
    """Say what changes between the configurations OLD and NEW: for recorded requests, or as compiled.

    Exits with 0 when nothing changes, 1 when something does, 2 for unusable input, as diff does.
    """
    from meshlib.cli import diff as comparison

    traffic = _usable(lambda: comparison.recorded(recordings)) if recordings else None
    with (
        _mesh((old, *shared), namespace, labels, strict) as before,
        _mesh((new, *shared), namespace, labels, strict) as after,
    ):
        for name, mesh in (("OLD", before), ("NEW", after)):
            _usable(mesh.wait_ready)
            show.problems(mesh.problems, f"{name}: ")
        found = comparison.diff(before.snapshot, after.snapshot, traffic)
    if output == "json":
        click.echo(json.dumps(comparison.as_json(found, traffic), indent=2))
    else:
        comparison.show(found, traffic)
    sys.exit(1 if found else 0)


@meshlib.command()
@click.argument("paths", nargs=-1, required=True)
@click.option("--namespace", default="default", envvar="MESHLIB_NAMESPACE", help="Where objects without one are.")
@click.option("--mesh-config", default=None, help="File with the MeshConfig; else a ConfigMap 'istio' is read.")
@click.option("--strict", is_flag=True, envvar="MESHLIB_STRICT", help="Unknown fields are errors.")
@click.option(
    "--suppress", multiple=True, metavar="CODE=KIND NAME.NS", help="Silence a code for an object; * stands for any."
)
@click.option(
    "--not-honoured/--no-not-honoured", default=True, help="Whether to tell of fields that meshlib does not act upon."
)
@click.option("--all", "everything", is_flag=True, help="Also annotations in alpha and sidecar injection.")
@click.option("--no-color", is_flag=True, help="No colours, even on a terminal.")
@click.option(
    "--failure-threshold",
    type=click.Choice(["Error", "Warning", "Info"], case_sensitive=False),
    default="Error",
    help="The least level that makes the exit code 1.",
)
@_output
def analyze(
    paths: tuple[str, ...],
    namespace: str,
    mesh_config: str | None,
    strict: bool,
    suppress: tuple[str, ...],
    not_honoured: bool,
    everything: bool,
    no_color: bool,
    failure_threshold: str,
    output: str,
) -> None:
    """Check that all objects of files and folders fit together, as istioctl analyze does.

    PATHS are files, folders, and - for standard input. Exits with 0 when nothing reaches the threshold, with 1 when
    something does, with 2 when the input cannot be used.
    """
    from meshlib.cli import analyze as analysis

    done = _usable(
        lambda: analysis.findings(
            paths,
            namespace,
            mesh_config,
            strict=strict,
            suppress=suppress,
            not_honoured=not_honoured,
            everything=everything,
        )
    )
    if output == "json":
        click.echo(json.dumps([problem.to_dict() for problem in done.found], indent=2))
    else:
        from meshlib.cli.findings import show as show_findings

        show_findings(done, color=not no_color)
    sys.exit(1 if analysis.reaches(done.found, failure_threshold) else 0)


@meshlib.command()
@click.option("--seconds", type=click.FloatRange(2.0, 600.0), default=18.0, help="About how long it runs.")
@click.option("--no-tty", is_flag=True, help="Log lines instead of a live display.")
@click.option("--output", type=click.Choice(["text", "json"]), default="text", help="Form of the summary.")
def demo(seconds: float, no_tty: bool, output: str) -> None:
    """Run a small bookshop on loopback and watch its traffic obey Istio's rules."""
    from meshlib.cli.bookshop.story import run

    sys.exit(run(seconds, live=sys.stdout.isatty() and not no_tty and output == "text", as_json=output == "json"))


def _mesh(paths: tuple[str, ...], namespace: str, labels: str, strict: bool, nameservers: str = "") -> Any:
    """A mesh that tells of its problems through the command alone: without a handler, logging would print them too."""
    from meshlib.mesh import Mesh

    logging.getLogger("meshlib").addHandler(_SILENCE)
    pairs = [pair.partition("=") for pair in labels.split(",") if pair]
    if any(not equals for _, equals, _ in pairs):
        _stop(f"--labels {labels!r} is not of the form k=v,k=v")
    given = {key: value for key, _, value in pairs}
    servers = [each.strip() for each in nameservers.split(",") if each.strip()] or None
    return _usable(lambda: Mesh(*paths, namespace=namespace, labels=given, strict=strict, nameservers=servers))


def _headers(given: tuple[str, ...]) -> list[tuple[str, str]]:
    """Names and values in their order; a name may be given several times, as with curl."""
    found: list[tuple[str, str]] = []
    for text in given:
        name, colon, value = text.partition(":")
        if not colon or not name.strip():
            _stop(f"-H {text!r} is not of the form 'Name: value'")
        found.append((name.strip(), value.strip()))
    return found


def _usable(function: Callable[[], Any]) -> Any:
    try:
        return function()
    except (MeshError, OSError, ValueError) as error:
        _stop(str(error))


def _stop(message: str) -> Any:
    click.echo(f"meshlib: {message}", err=True)
    sys.exit(UNUSABLE)
