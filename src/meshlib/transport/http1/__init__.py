"""HTTP/1.1 of our own, because moving bytes well is half of what a mesh does.

``reader`` and ``writer`` are sans-IO and serve both colours. ``protocol`` is a connection under asyncio, ``sockets``
one for threads; ``idle`` keeps connections between two exchanges and decides which may carry another.
"""
