"""What is true now: frozen, slotted values shaped like xDS, with no behaviour that waits.

Two producers end here, Istio's kinds compiled by ``config.compile`` and resources decoded from an xDS control
plane; one consumer starts here, the data plane. Read ``snapshot`` first, then ``route``, ``cluster``,
``policy`` and ``endpoint``.
"""
