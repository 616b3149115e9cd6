from __future__ import annotations

import random
import socket
from collections.abc import Iterator

import pytest

from runrig.cli.ports import BLOCKS, CHOSEN, Claim, FreePorts, check_free, is_free
from runrig.errors import Conflict


@pytest.fixture
def taken() -> Iterator[int]:
    """Listen on a port."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_a_port_in_use_is_reported_with_who_wants_it(taken: int) -> None:
    with pytest.raises(Conflict, match=f"^port {taken} for service is in use; use --ports auto"):
        check_free([Claim(taken, "service"), Claim(FreePorts().one(), "batch")])


def test_all_ports_in_use_are_reported_at_once(taken: int) -> None:
    with pytest.raises(Conflict, match=f"port {taken} for master and port {taken} for batch are in use"):
        check_free([Claim(taken, "master"), Claim(taken, "batch")])


def test_a_port_is_in_use_even_when_its_server_would_share_it() -> None:
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)  # as gRPC servers do
        server.bind(("127.0.0.1", 0))
        server.listen()

        assert not is_free(server.getsockname()[1])


def test_chosen_ports_are_free_and_each_is_given_once() -> None:
    free = FreePorts(random.Random(7))

    ports = [free.one() for _ in range(20)]

    assert len(set(ports)) == 20
    assert all(port in CHOSEN and is_free(port) for port in ports)


def test_a_block_of_ports_is_free_from_end_to_end() -> None:
    begin = FreePorts().block(100)

    assert begin in BLOCKS
    assert begin + 99 in BLOCKS
    assert all(is_free(port) for port in range(begin, begin + 100))
