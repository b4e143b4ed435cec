"""Istio's and Kubernetes' objects as typed models, and the loader that reads them from YAML and JSON.

    loaded = load_text(open("reviews.yaml").read(), "reviews.yaml")
    for problem in loaded.problems:
        print(problem)                     # reviews.yaml:14 VirtualService reviews spec.http[0]...: ...

Field names are Istio's in snake_case (``per_try_timeout`` for ``perTryTimeout``); durations are float seconds.
"""

from meshlib.config.resources.base import Message, ObjectMeta, Origin, Resource
from meshlib.config.resources.load import Loaded, load_dict, load_file, load_text

__all__ = ["Loaded", "Message", "ObjectMeta", "Origin", "Resource", "load_dict", "load_file", "load_text"]
