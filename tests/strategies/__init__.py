"""Hypothesis strategies for configuration: objects of every kind that the loader knows, worlds of them, requests.

    from tests.strategies import objects, worlds, requests

    @given(objects("VirtualService"))     # plain mappings, mostly valid; objects() draws any kind
    @given(objects(damaged=True))         # the same with wrong types, missing, extra and swapped fields
    @given(worlds())                      # some objects whose names refer to each other
    @given(requests())                    # (method, url, headers) that may concern such a world
    @bounded(60)                          # sixty examples, the same ones at each run; MESHLIB_FUZZ=20 tries more

They are made from the pydantic models themselves (``messages``), so a kind or field that is added to the loader is
covered from then on. Names, hosts and numbers come from small pools (``words``) so that objects meet each other.
"""

from tests.strategies.bounded import bounded
from tests.strategies.damage import damage
from tests.strategies.objects import OBJECT_KINDS, objects, worlds
from tests.strategies.requests import requests
from tests.strategies.words import json_values

__all__ = ["OBJECT_KINDS", "bounded", "damage", "json_values", "objects", "requests", "worlds"]
