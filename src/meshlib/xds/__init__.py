"""One model, one wire: what the snapshot holds as Envoy's v3 resources, and the way back.

``encode`` turns hosts, routes, clusters and endpoints into the messages that istiod would send; ``decode`` reads such
messages, from any control plane, into the same model, and says what it could not honour. ``bootstrap`` reads the file
with which gRPC clients find their control plane. Messages come from ``xds-protos``: ``pip install meshlib[xds]``.
"""
