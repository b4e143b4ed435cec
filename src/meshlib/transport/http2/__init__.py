"""HTTP/2 of our own: many exchanges on one connection to each endpoint.

``h2`` keeps the state of streams, windows and header compression; ``frames`` watches what a peer sends before ``h2``
sees it, ``session`` and ``stream`` are sans-IO and serve every colour. ``cooperative`` is an exchange in a task, with
one module for asyncio and one for trio; ``blocking`` is an exchange in a thread that shares its connection with others.
"""
