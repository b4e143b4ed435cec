"""The system's own resolver, for processes without dnspython: addresses only, and nobody says how long they hold."""

from __future__ import annotations

import asyncio
import socket

from meshlib.dns.answers import Answer, LookupFailed

__all__ = ["SystemResolver"]

_NOBODY = {getattr(socket, name) for name in ("EAI_NONAME", "EAI_NODATA") if hasattr(socket, name)}


class SystemResolver:
    """Asks ``getaddrinfo``, in a thread.

    Args:
        timeout: Seconds for one look-up; the thread may take longer, nobody waits for it.
    """

    def __init__(self, *, timeout: float = 5.0) -> None:
        self._timeout = timeout

    async def addresses(self, name: str) -> Answer:
        """See ``Resolver.addresses``."""
        loop = asyncio.get_running_loop()
        flags = socket.AI_ADDRCONFIG
        try:
            async with asyncio.timeout(self._timeout):
                found = await loop.getaddrinfo(name, None, type=socket.SOCK_STREAM, flags=flags)
        except TimeoutError:
            raise LookupFailed(f"{name}: no answer within {self._timeout:g} s") from None
        except socket.gaierror as error:
            if error.errno in _NOBODY:
                return Answer(())
            raise LookupFailed(f"{name}: {error.strerror}") from error
        except (OSError, UnicodeError) as error:
            raise LookupFailed(f"{name}: {error}") from error
        return Answer(tuple(dict.fromkeys(str(address[0]) for *_, address in found)))

    async def targets(self, name: str) -> Answer:
        """See ``Resolver.targets``: the system cannot tell."""
        raise LookupFailed(f"SRV of {name}: the system's resolver knows no SRV records; install meshlib[dns]")
