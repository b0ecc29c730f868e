"""Filters that are broken, hostile or stalled: each is told once and dropped, no other notices."""

from __future__ import annotations

import random
import socket
import struct
import sys
import threading
import time
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import numpy as np
import pytest

from cagface_core import DeviceError
from realtime import serve
from realtime.peer import Gone, Peer, ask_engine
from realtime.wire import HEADER_BYTES, TOKEN_BYTES, Header, Kind, WireError
from tests.realtime.filters import (
    LONG_S,
    TOKEN,
    Filter,
    bgra_frames,
    closed,
    engine,
    filter_threads,
    refusal,
    until,
)

HELLO = Header(Kind.HELLO, TOKEN_BYTES).pack() + TOKEN.encode()
SMALL = np.full((32, 48, 4), 255, np.uint8)
FRAME = Header(Kind.FRAME, SMALL.nbytes, 1, 0, 48, 32).pack() + SMALL.tobytes()


@pytest.fixture(scope="module")
def served():
    with engine(hello_s=2.0, message_s=2.0) as running:
        yield running
    assert filter_threads() == 0


@pytest.fixture
def good(served):
    """A filter that gets its pictures before, while and after others misbehave."""
    with closing(Filter(served.connect())) as obs:
        assert_served(obs)
        yield obs
        assert_served(obs)
    assert until(lambda: filter_threads() == 0)


def assert_served(obs):
    header, bgra = obs.result(SMALL, time.monotonic())
    assert header.face_count == 0
    np.testing.assert_array_equal(bgra, SMALL)


def told(served, data):
    """What the engine answers to these bytes, after which it must close."""
    with closing(served.connect()) as connection:
        connection.sendall(data)
        line = refusal(Peer(connection))
        assert closed(connection)
        return line


def patched(packed, offset, data):
    return packed[:offset] + data + packed[offset + len(data) :]


@pytest.mark.usefixtures("good")
@pytest.mark.parametrize(
    ("data", "line"),
    [
        (HELLO[:HEADER_BYTES] + b"f" * TOKEN_BYTES, "wrong token"),
        (HELLO[:HEADER_BYTES] + "é".encode() * 32, "wrong token"),
        (patched(HELLO, 0, b"GET "), "not a CAGFace message"),
        (patched(HELLO, 4, b"\x02\0"), "speaks version 2, this one 1: install"),
        (patched(HELLO, 32, b"\xff\xff\xff\xff"), "4294967295 bytes in a HELLO"),
        (FRAME, "a FRAME, expected a HELLO first"),
        (HELLO + HELLO, "a HELLO, expected a FRAME"),
        (HELLO + patched(FRAME, 24, struct.pack("<I", 47)), "bytes for a picture of 47x32"),
        (HELLO + patched(FRAME, 24, struct.pack("<I", 2**31)), "expected 1 to 8192"),
        (HELLO + patched(FRAME, 36, struct.pack("<I", 3)), "scale 3"),
        (HELLO + patched(FRAME, 44, struct.pack("<f", float("nan"))), "strength nan"),
    ],
)
def test_what_is_wrong_is_told_in_one_line(served, data, line):
    if data.startswith(HELLO):
        with closing(Filter(served.connect())) as obs:
            obs.socket.sendall(data[len(HELLO) :])
            answer = refusal(obs.peer)
            assert closed(obs.socket)
    else:
        answer = told(served, data)
    assert line in answer
    assert "\n" not in answer


def test_who_stalls_is_dropped_and_harms_nobody(served, good):
    large = np.full((1024, 1024, 4), 255, np.uint8)
    begun = [b"", HELLO[:1], HELLO[:64], HELLO[:-1], HELLO + FRAME[:64], HELLO + FRAME[:-1]]
    with ExitStack() as stack:
        stalled = [stack.enter_context(closing(served.connect())) for _ in begun]
        for connection, data in zip(stalled, begun, strict=True):
            connection.sendall(data)
        never_reads = stack.enter_context(closing(Filter(served.connect())))
        never_reads.send(large, scale=4)
        assert until(lambda: assert_served(good) or filter_threads() == 1)
        assert all(closed(connection) for connection in [*stalled, never_reads.socket])


def test_a_filter_may_rest_for_as_long_as_it_likes(served, good):
    with closing(Filter(served.connect())) as resting, closing(served.connect()) as silent:
        assert closed(silent)  # the engine waited as long for its HELLO as for half a message
        assert_served(resting)


def test_a_byte_at_a_time_is_no_way_around_the_deadline(served, good):
    with closing(served.connect()) as slow:
        begin_s = time.monotonic()
        with suppress(ConnectionError):
            for at in range(HEADER_BYTES):
                slow.sendall(HELLO[at : at + 1])
                time.sleep(0.1)
                if filter_threads() < 2:
                    break
        assert time.monotonic() - begin_s < HEADER_BYTES * 0.1


def test_a_flood_of_strangers_does_not_lock_filters_out(served, good):
    with ExitStack() as stack:
        strangers = [stack.enter_context(closing(served.connect())) for _ in range(150)]
        assert until(lambda: filter_threads() <= serve._MOST_STRANGERS + 1)
        with closing(Filter(served.connect())) as late:
            assert_served(late)
            assert_served(good)
        assert closed(strangers[0])


def test_more_filters_than_there_may_be(served, good):
    with ExitStack() as stack:
        for _ in range(serve.MOST_FILTERS - 1):
            stack.enter_context(closing(Filter(served.connect())))
        assert "filters are connected already" in told(served, HELLO)


def test_coming_and_going_leaves_nothing_behind(served, demo_clip):
    (face,) = bgra_frames(demo_clip, 1)
    sizes: list[tuple[int, int, int]] = []
    for turn in range(110):
        with closing(Filter(served.connect())) as obs:
            if turn % 5 == 0:
                assert obs.result(face)[0].face_count == 1
            else:
                assert_served(obs)
        if turn in (9, 109):
            assert until(lambda: filter_threads() == 0)
            sizes.append((threading.active_count(), _handles(), _resident_kib()))
    (threads, handles, kib), (threads_after, handles_after, kib_after) = sizes
    assert threads_after <= threads
    assert handles_after <= handles
    assert kib_after - kib < 40 * 1024


def _handles():
    return len(list(Path("/proc/self/fd").iterdir())) if sys.platform.startswith("linux") else 0


def _resident_kib():
    if not sys.platform.startswith("linux"):
        return 0
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.split("VmRSS:")[1].split()[0])


def test_300_mutated_streams(served, good):
    chance = random.Random(7461)
    for number in range(300):
        data = bytearray(HELLO + FRAME * chance.randint(1, 2))
        for _ in range(chance.randint(1, 6)):
            at = chance.choice([chance.randrange(len(data)), chance.randrange(2 * HEADER_BYTES)])
            match chance.randrange(4):
                case 0:
                    data[at] = chance.randrange(256)
                case 1:
                    del data[at : at + chance.randint(1, 100)]
                case 2:
                    data[at:at] = chance.randbytes(chance.randint(1, 100))
                case _:
                    data[at : at + 4] = struct.pack("<I", chance.choice([0, 1, 2**31, 2**32 - 1]))
        with closing(served.connect()) as connection, suppress(ConnectionError):
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            if number % 3:  # the others hang up without a look
                closed(connection)
        if number % 50 == 0:
            assert_served(good)


def test_broken_connections_do_not_fill_the_log(served, good, caplog):
    for _ in range(50):
        assert told(served, b"x" * HEADER_BYTES) == "not a CAGFace message"
    assert len(caplog.messages) <= 5
    assert all("\n" not in line for line in caplog.messages)


def test_whoever_asks_is_told_what_is_there(served):
    assert ask_engine(served.address, TOKEN) == "cpu-float32"
    with pytest.raises(DeviceError, match="refuses: wrong token"):
        ask_engine(served.address, "0" * 64)
    with closing(socket.socket()) as other:
        other.bind(("127.0.0.1", 0))
        with pytest.raises(DeviceError, match="no engine runs at"):
            ask_engine(other.getsockname(), TOKEN, 0.2)
        other.listen()
        with pytest.raises(DeviceError, match="is no engine of this version"):
            ask_engine(other.getsockname(), TOKEN, 0.2)


def test_an_engine_that_ends_hangs_up_on_everyone():
    with ExitStack() as stack:
        with engine() as served:
            obs = stack.enter_context(closing(Filter(served.connect())))
            stranger = stack.enter_context(closing(served.connect()))
            assert until(lambda: filter_threads() == 2)
        assert closed(stranger)
        with pytest.raises((Gone, ConnectionError, WireError)):
            obs.peer.header(LONG_S)
    assert filter_threads() == 0
