"""How it became true: Istio's objects loaded, validated, and compiled into the model the data plane runs on.

``resources`` reads them, ``validation`` checks them one by one, ``compile`` turns all of them into a snapshot, and
``feed`` keeps doing so while they change.
"""
