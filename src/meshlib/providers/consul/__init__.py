"""Consul as a source of services: its catalogue and health checks, by blocking queries over plain HTTP.

``query`` has the rules of blocking queries, ``watch`` the loop around them, ``catalogue`` one such loop for each
service, ``sharing``, ``turns`` and ``changes`` how many services do with few connections, ``services`` what an answer
means, ``agent`` what is asked, ``scope`` of what.
"""

from meshlib.providers.consul.provider import ConsulProvider

__all__ = ["ConsulProvider"]
