"""By which network the workers of a group speak to one another: the one on which their nodes know each other.

Left to itself, Gloo takes the address that the machine's own name stands for, which on Debian and Ubuntu is a loopback one,
and a group on two machines then never meets. NCCL looks for an interface itself, and finds it.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import sys


def choose() -> None:
    """In a worker process of a cluster: name Gloo the interface that has the node's address, unless the user has."""
    import ray

    if name := interface_of(ray.util.get_node_ip_address()):
        os.environ.setdefault("GLOO_SOCKET_IFNAME", name)


def interface_of(address: str) -> str | None:
    """The network interface with an IPv4 address, on Linux; None: there is none, or it cannot be known."""
    if sys.platform != "linux":
        return None
    import fcntl

    ask_for_address = 0x8915  # SIOCGIFADDR
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        for _, name in socket.if_nameindex():
            with contextlib.suppress(OSError):  # it has no address
                answer = fcntl.ioctl(asked, ask_for_address, struct.pack("256s", name.encode()))
                if socket.inet_ntoa(answer[20:24]) == address:
                    return name
    return None
