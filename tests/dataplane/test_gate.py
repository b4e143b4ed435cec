"""The gate in front of connections: first come, first served, whoever gives up; bounded; nothing is lost."""

from __future__ import annotations

import random
import threading

import pytest

from meshlib.dataplane.policies import gate as gate_module
from meshlib.dataplane.policies.gate import Gate, Ticket


def test_waiters_are_let_in_in_their_order_whoever_gives_up():
    gate, order = Gate(4), []
    inside = [gate.enter(lambda: None) for _ in range(4)]
    waiting = [gate.enter(lambda number=number: order.append(number)) for number in range(200)]
    gone = set(random.Random(5).sample(range(200), 70))
    for number in gone:
        gate.leave(waiting[number])
        gate.leave(waiting[number])
    assert gate.pending == 130
    for ticket in inside:
        gate.leave(ticket)
    left = [number for number in range(200) if number not in gone]
    while len(order) < len(left):
        gate.leave(waiting[order[len(order) - 4]])
    assert order == left
    for number in order[-4:]:
        gate.leave(waiting[number])
    assert (gate.inside, gate.pending) == (0, 0)


@pytest.mark.parametrize("most", [0, 1, 7])
def test_no_more_wait_than_may(most):
    gate = Gate(1, most)
    assert gate.enter(lambda: None) is not None
    tickets = [gate.enter(lambda: None) for _ in range(most + 3)]
    assert [ticket is not None for ticket in tickets] == [True] * most + [False] * 3
    assert gate.pending == most


def test_two_hundred_threads_never_exceed_the_capacity_and_leave_nothing():
    gate, rng, lock = Gate(5), random.Random(1), threading.Lock()
    most = now = passed = 0
    patience = [rng.choice([0.0, 0.001, 10.0]) for _ in range(200)]

    def visit(seconds):
        nonlocal most, now, passed
        woken = threading.Event()
        ticket = gate.enter(woken.set)
        assert ticket is not None
        if ticket.admitted or woken.wait(seconds) or ticket.admitted:
            with lock:
                now, passed = now + 1, passed + 1
                most = max(most, now)
            with lock:
                now -= 1
        gate.leave(ticket)

    workers = [threading.Thread(target=visit, args=(seconds,)) for seconds in patience]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(20)
    assert most <= 5
    assert passed >= patience.count(10.0), "the patient all got in"
    assert (gate.inside, gate.pending) == (0, 0)


def test_a_place_that_a_finalizer_gives_up_while_somebody_queues_is_not_left_empty(monkeypatch):
    """Making a ticket may set off a collection that ends the only call inside, in this very thread."""
    gate, woken = Gate(1), []
    inside = gate.enter(lambda: None)

    def made(gate, admitted, wake):
        gate.leave(inside)
        return Ticket(gate, admitted, wake)

    monkeypatch.setattr(gate_module, "Ticket", made)
    ticket = gate.enter(lambda: woken.append(True))
    assert (ticket.admitted, gate.inside, gate.pending) == (True, 1, 0)
    gate.leave(ticket)
    assert (gate.inside, woken) == (0, [True])
