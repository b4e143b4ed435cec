"""A Kubernetes API server as a source: its services, endpoints and every kind of Istio's that it holds.

Read ``reflector`` first: how one collection is listed and watched, as a machine without sockets or clocks. ``watcher``
drives one, ``discovery`` says which there are, ``store`` and ``lean`` make resources of what comes, ``session`` speaks
HTTP, ``provider`` holds them together.
"""

from meshlib.providers.kubernetes.provider import KubernetesProvider
from meshlib.providers.kubernetes.tuning import Tuning

__all__ = ["KubernetesProvider", "Tuning"]
