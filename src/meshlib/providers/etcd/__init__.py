"""etcd as a source of objects and of services, by its JSON gateway.

``gateway`` is what is asked, ``follow`` the loop of list and watch, ``keyspace`` the rules of revisions, ``registry``
and ``contents`` what keys mean, ``registration`` puts an instance there for as long as its process lives.
"""

from meshlib.providers.etcd.provider import EtcdProvider
from meshlib.providers.etcd.registration import EtcdRegistration

__all__ = ["EtcdProvider", "EtcdRegistration"]
