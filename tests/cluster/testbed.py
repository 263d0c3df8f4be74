"""A cluster of real hosts, brought up as a user does it: `ray up` with the shipped file for machines of one's own.

Only what no two places share is changed in that file: addresses, the key, where the store lies. The hosts have no way to a
package registry, so this environment stands in for the one that the file would install.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import yaml
from cluster.files import load
from cluster.hosts import Hosts, hosts, why_not

RAY = Path(sys.prefix) / "bin" / "ray"
BASHRC = {
    "RAY_OVERRIDE_RESOURCES": '{"CPU": 1}',
    "RAY_DEFAULT_OBJECT_STORE_MAX_MEMORY_BYTES": str(100 << 20),
    "RAY_raylet_start_wait_time_s": "120",  # the hosts share the cores of one machine
    "PYTHONPATH": "$HOME/plm-sweeps",  # as if installed from there
    "HF_HUB_OFFLINE": "1",
}
ATTEMPTS = 3
"""Of `ray up`: a raylet gives its agents 15 seconds to start, which a machine with other work may not have for them."""
PATIENCE = 900.0
"""Seconds that a command may take on a machine that does other things."""


def why_no_cluster() -> str | None:
    """What this machine lacks; None: nothing."""
    if not all(find_spec(name) for name in ("aiohttp_cors", "opencensus")):
        return "`ray up` needs ray[default]: pip install '.[cluster]'"
    return why_not()


@dataclass(frozen=True)
class Cluster:
    """Hosts that `ray up` has made one."""

    hosts: Hosts
    file: Path

    def ray(self, words: str, timeout: float = PATIENCE) -> subprocess.CompletedProcess[str]:
        """`ray <words>` on the laptop."""
        return self.hosts.command(f"{RAY} {words}", timeout)

    def on_head(self, command: str, timeout: float = PATIENCE) -> subprocess.CompletedProcess[str]:
        """A command in a login shell of the head, through `ray exec` and SSH."""
        return self.ray(f"exec {self.file} '{command}'", timeout)


@contextlib.contextmanager
def cluster(count: int = 3) -> Iterator[Cluster]:
    """Bring up a cluster; all is gone at the end."""
    with hosts(count, BASHRC) as machines:
        config = load("cluster-local.yaml")
        config["provider"] |= {
            "head_ip": machines.hosts[0].address,
            "worker_ips": [host.address for host in machines.hosts[1:]],
        }
        config["auth"] = {"ssh_user": "root", "ssh_private_key": str(machines.key)}
        config["setup_commands"] = [
            command.replace("store=/mnt/plm-sweeps", f"store={machines.store}")
            for command in config["setup_commands"]
            if "pip install" not in command
        ]
        for host in machines.hosts:
            (host.home / "venv").symlink_to(sys.prefix)
        here = Cluster(machines, machines.laptop / "cluster.yaml")
        here.file.write_text(yaml.safe_dump(config))
        assert here.ray("get-auth-token --generate").returncode == 0
        for _ in range(ATTEMPTS):
            up = here.ray(f"up --yes {here.file}")
            if up.returncode == 0:
                break
        assert up.returncode == 0, up.stdout[-2000:] + up.stderr[-2000:]
        yield here
