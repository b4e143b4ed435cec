"""Which assignments are searched for names: a change of endpoints may cost what changed, not what is in use."""

from __future__ import annotations

from meshlib.config.resolved import Expansions, Resolved
from meshlib.dns.answers import Question
from meshlib.model.cluster import Cluster, Discovery
from meshlib.model.endpoint import Endpoint, LocalityEndpoints
from meshlib.model.snapshot import EMPTY


class Counted(tuple):
    """An assignment that counts how often it is gone through."""

    searches = 0

    def __iter__(self):
        self.searches += 1
        return super().__iter__()


class Source:
    outbound_policy, path_normalization = EMPTY.outbound_policy, EMPTY.path_normalization

    def __init__(self, assignment):
        self._assignment = assignment

    def cluster(self, name):
        return Cluster(name, "db", 80, discovery=Discovery.STRICT_DNS)

    def assignment(self, name):
        return self._assignment


ANSWERED = {Question("db.example"): ("10.0.0.9",)}


def assigned(*addresses):
    return Counted((LocalityEndpoints(tuple(Endpoint(address, 80) for address in addresses)),))


def test_an_assignment_is_searched_for_names_once_however_many_states_hold_it():
    wanted = []
    expansions = Expansions(dict, lambda question, refresh: wanted.append(question.name))
    plain, named = assigned("10.0.0.1", "10.0.0.2"), assigned("db.example")
    for _ in range(3):
        assert Resolved(Source(plain), expansions, {}).assignment("plain") is plain
        Resolved(Source(named), expansions, ANSWERED).assignment("named")
    assert (plain.searches, named.searches) == (1, 2), "the second goes into what comes of the names"
    assert wanted == ["db.example"] * 3
    other = assigned("other.example")
    Resolved(Source(other), expansions, {}).assignment("named")
    assert wanted[3:] == ["other.example"]
