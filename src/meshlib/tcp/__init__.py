"""Raw connections: what ``Mesh.open_tcp``, ``Mesh.aopen_tcp`` and ``Mesh.pick`` do.

``opens`` is what a mesh inherits, ``connector`` routes a connection and asks its call for endpoints, ``blocking`` and
``cooperative`` dial them, ``lease`` is what a connection counts for until it is closed, and ``watch`` ends those whose
time is over.
"""
