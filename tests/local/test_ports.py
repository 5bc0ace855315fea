"""Ports that stay a server's own while it is away."""

import socket
from pathlib import Path

import pytest

from services.local.triton import free_ports

pytestmark = pytest.mark.unit


def test_ports_are_free_different_and_none_that_the_kernel_gives_away() -> None:
    first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    ports = free_ports(50)
    assert len(set(ports)) == 50
    assert all(1024 < port < first for port in ports)


def test_a_port_that_is_taken_is_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    (taken,) = free_ports(1)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", taken))
        listener.listen()
        monkeypatch.setattr("services.local.triton._PORTS", range(taken, taken + 2))
        assert free_ports(1) == [taken + 1]
