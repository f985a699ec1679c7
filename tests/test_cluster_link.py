"""The connections by which processes hear that one of them is gone, or stopped."""

import contextlib
import socket
import threading
import time

import pytest

from subliminal_jax.execution import cluster as cluster_module


@pytest.fixture
def pair():
    """Makes the two ends of a connection, on which nobody waits for ever."""
    with contextlib.ExitStack() as opened:

        def connect():
            ends = [opened.enter_context(end) for end in socket.socketpair()]
            for end in ends:
                end.settimeout(5)
            return ends

        yield connect


def test_every_process_hears_who_is_gone(monkeypatch, pair):
    """Of three, process 2 goes without a word; the first one tells process 1 its number."""
    said, to_one, to_two = [], pair(), pair()
    monkeypatch.setattr(cluster_module, "_end", said.append)

    def link(me, connections):
        made = object.__new__(cluster_module._Link)
        made._me, made._count, made._connections = me, 3, connections
        made._parted = threading.Event()
        return made

    to_two[1].close()
    link(0, {1: to_one[0], 2: to_two[0]})._watch(2, to_two[0])
    link(1, {0: to_one[1]})._watch(0, to_one[1])
    assert [line.partition(" ends")[0] for line in said] == [
        f"process 2 of 3 is gone, so process {me}" for me in (0, 1)
    ]
    ours, theirs = pair()
    link(1, {0: theirs}).say(b"goodbye\n")
    link(0, {1: ours})._watch(1, ours)
    assert len(said) == 2


def test_a_process_that_is_stopped_is_named(monkeypatch, pair):
    """Its connection stands, but it gives no sign of life; one that gives signs is waited for."""
    monkeypatch.setattr(cluster_module, "SILENT_SECONDS", 0.4)
    said, (ours, theirs) = [], pair()
    monkeypatch.setattr(cluster_module, "_end", said.append)
    link = object.__new__(cluster_module._Link)
    link._me, link._count, link._connections = 0, 2, {1: ours}
    watching = threading.Thread(target=link._watch, args=(1, ours))
    watching.start()
    for _ in range(8):  # four times as long as silence is borne
        time.sleep(0.2)
        theirs.sendall(b"here\n")
        assert said == []
    watching.join(timeout=10)
    (line,) = said
    assert line.startswith("process 1 of 2 has given no sign of life for 0.4 s, so process 0 e")


@pytest.mark.parametrize(
    ("pieces", "word"),
    [
        ([b"here\nhe", b"re\ngood", b"bye\n"], b"goodbye\n"),
        ([b"here\n2\n"], b"2\n"),
        ([b"here\n", b""], b""),
    ],
)
def test_words_come_in_pieces(pair, pieces, word):
    ours, theirs = pair()

    def speak():
        for piece in pieces:
            theirs.sendall(piece)
            time.sleep(0.05)
        theirs.shutdown(socket.SHUT_WR)

    speaking = threading.Thread(target=speak)
    speaking.start()
    assert cluster_module._next_word(ours) == word
    speaking.join()


def test_strangers_are_not_taken_for_peers(pair):
    said = {b"secret 3\n": 3, b"secret x\n": None, b"guess 3\n": None, b"\xff\xfe\n": None,
            b"secret 3" + 200 * b"0" + b"\n": None, b"": None}  # fmt: skip
    for words, number in said.items():
        ours, theirs = pair()
        theirs.sendall(words)
        theirs.close()
        assert cluster_module._introduced(ours, "secret") == number


def test_the_first_host_is_reached_where_the_coordinator_is(monkeypatch):
    assert cluster_module._own_address("node0:1234") == "node0"
    monkeypatch.setattr(cluster_module.socket, "gethostbyname", lambda name: "127.0.1.1")
    for coordinator in (None, "[::1]:1234"):
        address = cluster_module._own_address(coordinator)
        assert socket.inet_aton(address)

    def no_way_out(*_):
        raise OSError("Network is unreachable")

    monkeypatch.setattr(cluster_module.socket.socket, "connect", no_way_out)
    assert cluster_module._own_address(None) == "127.0.1.1"
