"""``meshlib size``: how large a connection pool should be."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import asdict

import click

from meshlib.sizing import Sizing, size

__all__ = ["size_command"]

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "": 1.0}


class _Seconds(click.ParamType):  # type: ignore[type-arg, unused-ignore]
    """``40ms``, ``1.5s``, ``2m``, or plain seconds."""

    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        found = re.fullmatch(r"([0-9]+(?:\.[0-9]*)?)(ms|s|m|)", str(value))
        if found is None:
            self.fail(f"{value!r} is no duration such as 40ms or 1.5s", param, ctx)
        return float(found[1]) * _UNITS[found[2]]


@click.command("size")
@click.option("--rps", type=float, required=True, help="Calls per second of all workers, at their busiest.")
@click.option("--latency", type=_Seconds(), required=True, help="How long a call takes on average, 40ms.")
@click.option("--workers", type=int, default=1, help="Processes that share the calls.")
@click.option("--wait", type=_Seconds(), default=None, help="How long a call may wait for a connection.")
@click.option("--server-keepalive", type=_Seconds(), default=60.0, help="When the server closes idle connections.")
@click.option("--output", type=click.Choice(["text", "json"]), default="text", help="For people or programs.")
def size_command(
    rps: float, latency: float, workers: int, wait: float | None, server_keepalive: float, output: str
) -> None:
    """Recommend a connection pool, by Little's law."""
    try:
        found = size(rps, latency, workers, wait, server_keepalive)
    except ValueError as error:
        click.echo(f"meshlib: {error}", err=True)
        sys.exit(2)
    click.echo(json.dumps(asdict(found), indent=2) if output == "json" else _text(found, workers), nl=output == "json")


def _text(found: Sizing, workers: int) -> str:
    return (
        f"Each worker has {found.under_way:.3g} calls under way on average, "
        f"and {found.max_connections} connections for them: {found.utilization:.0%} are busy.\n"
        f"All {workers} together open up to {found.total_connections} connections to the service.\n\n{found.yaml()}"
    )
