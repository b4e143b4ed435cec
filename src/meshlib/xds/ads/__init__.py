"""What an xDS client does, without a socket or a clock: sessions with control planes, and what comes of them.

Read in this order: ``kinds`` (the types of resources), ``cache`` (what is known of each name), ``session`` with
``sotw`` and ``delta`` (one conversation with one server), ``warming`` (what may be used of the cache, so that no order
of updates breaks a request), ``client`` (all servers, and what to ask them for).

Source: gRFCs A27, A46, A47, A53, A57, A71, A74, A88; Envoy's xDS protocol page.
"""
