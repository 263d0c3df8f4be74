"""The network by which workers speak."""

from __future__ import annotations

import os
import socket
import sys

import pytest

from sweeps.engine import interface

linux = pytest.mark.skipif(sys.platform != "linux", reason="interfaces are asked for as Linux answers")


@linux
def test_an_interface_is_found_by_its_address() -> None:
    assert interface.interface_of("127.0.0.1") == socket.if_indextoname(1)  # loopback comes first
    assert interface.interface_of("192.0.2.1") is None  # an address kept for documentation


@linux
def test_the_users_own_choice_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray.util.get_node_ip_address", lambda: "127.0.0.1")
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "ib0")
    interface.choose()
    assert os.environ["GLOO_SOCKET_IFNAME"] == "ib0"
    monkeypatch.delenv("GLOO_SOCKET_IFNAME")
    interface.choose()
    assert os.environ["GLOO_SOCKET_IFNAME"] == socket.if_indextoname(1)
