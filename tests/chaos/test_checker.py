"""The checker finds what is planted, and nothing in a history that keeps every promise."""

import pytest

from chaos.checker import check, percentile
from chaos.history import Connection, Delivery, Fault, History, make_body, read_body

INFINITY = float("inf")


def world(messages=5):
    """`messages` on queue `q`, confirmed, delivered in order to `c1` on node `n1`, acknowledged and synced."""
    history = History()
    history.connections = {1: Connection(1, "c1", "n1", 0.0), 2: Connection(2, "c2", "n2", 0.0)}
    for number in range(messages):
        message, at = (7, number), float(number)
        history.published[message] = (at, "q", 50)
        history.confirmed[message] = at + 0.1
        history.deliveries.append(Delivery(at + 0.2, message, "q", "c1", 1, False))
        history.acks.append((at + 0.3, message, 1))
    history.synced.append((messages + 0.5, messages + 0.6, 1))
    return history


def rules(history):
    return {violation.rule for violation in check(history).violations}


def test_a_history_that_keeps_every_promise_passes():
    verdict = check(world())
    assert verdict.ok, verdict.violations
    assert (verdict.published, verdict.confirmed, verdict.delivered, verdict.duplicates) == (5, 5, 5, 0)


def test_a_confirmed_message_that_never_came_is_lost():
    history = world()
    gone = (7, 3)
    history.deliveries = [d for d in history.deliveries if d.message != gone]
    history.acks = [ack for ack in history.acks if ack[1] != gone]
    assert rules(history) == {"lost"}


def test_a_message_whose_consumer_went_without_acknowledging_must_come_again():
    history = world()
    history.acks = [ack for ack in history.acks if ack[1] != (7, 4)]
    history.ended[1] = 4.25
    assert "lost" in rules(history)


def test_an_unconfirmed_message_may_go():
    history = world()
    history.published[(7, 99)] = (9.0, "q", 50)
    assert check(history).ok and check(history).unknown == 1


def test_what_nobody_published_is_invented():
    history = world()
    history.deliveries.append(Delivery(9.0, (7, 77), "q", "c1", 1, False))
    assert rules(history) == {"invented"}


def test_what_was_published_to_another_queue_is_invented():
    history = world()
    history.published[(7, 0)] = (0.0, "other", 50)
    assert rules(history) == {"invented"}


def test_a_second_delivery_without_the_flag_is_found():
    history = world()
    history.ended[1] = 6.0
    history.synced.clear()
    history.deliveries.append(Delivery(7.0, (7, 4), "q", "c2", 2, False))
    assert rules(history) == {"unflagged"}


def test_a_flagged_second_delivery_after_a_lost_connection_is_allowed():
    history = world()
    history.ended[1] = 6.0
    history.synced.clear()
    history.deliveries.append(Delivery(7.0, (7, 4), "q", "c2", 2, True))
    assert check(history).ok and check(history).duplicates == 1


def test_what_was_acknowledged_for_good_may_not_come_back():
    history = world()
    history.deliveries.append(Delivery(60.0, (7, 2), "q", "c2", 2, True))
    assert rules(history) == {"came back"}


def test_an_acknowledgement_in_the_middle_of_a_fault_is_not_sure():
    history = world()
    history.faults.append(Fault("kill", frozenset({"n1"}), 5.0, 55.0))
    history.ended[1] = 5.7
    history.deliveries.append(Delivery(60.0, (7, 2), "q", "c2", 2, True))
    assert check(history).ok


@pytest.mark.parametrize("hurt, found", [(frozenset({"n3"}), {"two holders"}), (frozenset({"n1"}), set())])
def test_a_second_holder_is_found_unless_the_first_ones_node_was_hurt(hurt, found):
    history = world()
    history.acks = [ack for ack in history.acks if ack[1] != (7, 4)] + [(9.0, (7, 4), 1), (9.5, (7, 4), 2)]
    history.deliveries.append(Delivery(8.0, (7, 4), "q", "c2", 2, True))
    history.faults.append(Fault("kill", hurt, 7.0, 7.5))
    assert rules(history) == found


def test_a_publishers_messages_come_in_order():
    history = world(0)
    for at, number in [(1.0, 1), (2.0, 0)]:
        history.published[(7, number)] = (0.0, "q", 50)
        history.deliveries.append(Delivery(at, (7, number), "q", "c1", 1, False))
    assert rules(history) == {"order"}


def test_between_two_connections_of_a_publisher_there_is_no_order():
    history = world(0)
    for at, number, connection in [(1.0, 1, 51), (2.0, 0, 50)]:
        history.published[(7, number)] = (0.0, "q", connection)
        history.confirmed[(7, number)] = 0.5
        history.deliveries.append(Delivery(at, (7, number), "q", "c1", 1, False))
        history.acks.append((at, (7, number), 1))
    assert check(history).ok


def test_messages_that_only_a_new_consumer_gets_show_a_stuck_queue():
    history = world()
    history.published[(7, 9)] = (9.0, "q", 50)
    history.confirmed[(7, 9)] = 9.1
    history.deliveries.append(Delivery(60.0, (7, 9), "q", history.drain, 2, False))
    history.acks.append((60.1, (7, 9), 2))
    assert rules(history) == {"stuck"}


def test_a_publish_is_not_both_confirmed_and_refused():
    history = world()
    history.nacked[(7, 1)] = 1.2
    assert rules(history) == {"contradiction"}


def test_the_wait_after_a_fault_counts_only_what_was_published_after_it():
    history = world(0)
    history.faults.append(Fault("kill", frozenset({"n1"}), 10.0, 11.0))
    for number, published, confirmed in [(0, 9.9, 10.4), (1, 10.1, 12.5)]:
        history.published[(7, number)] = (published, "q", 50)
        history.confirmed[(7, number)] = confirmed
    assert check(history).unavailable == [pytest.approx(2.5)]


@pytest.mark.parametrize("hit, kind", [({"n1"}, "cut: its own clients"), ({"n2"}, "cut"), ({"n1", "n2"}, "cut")])
def test_who_published_at_the_node_that_was_hit_is_told_apart_while_others_are_whole(hit, kind):
    history = world(0)
    history.connections = {50: Connection(50, "publisher", "n1", 0.0), 51: Connection(51, "publisher", "n2", 12.0)}
    history.faults.append(Fault("cut", frozenset(hit), 10.0, 11.0))
    for number, published, confirmed, connection in [(0, 9.9, 10.4, 50), (1, 12.1, 12.5, 51)]:
        history.published[(7, number)] = (published, "q", connection)
        history.confirmed[(7, number)] = confirmed
    assert check(history).waits == {kind: [pytest.approx(2.5)]}


def test_a_body_is_read_back_and_a_changed_one_is_not():
    body = make_body(3, 9, 500)
    assert read_body(body) == (3, 9)
    for at in (0, 9, 15, len(body) - 1):
        changed = bytearray(body)
        changed[at] ^= 1
        assert read_body(bytes(changed)) is None, at
    assert read_body(body[:-12] + b"x" * 12) is None and read_body(b"") is None


def test_percentiles_are_nearest_ranks():
    assert percentile([], 0.5) is None
    assert percentile([1, 2, 3, 4], 0.5) == 3 and percentile([1], 0.99) == 1
