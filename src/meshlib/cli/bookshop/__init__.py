"""The demo: a bookshop of four services, three versions of one, real HTTP servers on loopback under Istio's YAML.

``application`` are the servers, ``mesh/`` the configuration, ``story`` what happens to them, ``screen`` what one sees.
"""
