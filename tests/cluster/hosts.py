"""Real hosts on one machine: each a network, process, mount and name space with an sshd of its own.

A host differs from a process by what it does not share: `ray stop` or a kill on one does not reach the others, and its
network can be cut. All of a host ends with its first process; the bridge between them is the only thing to take away.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
BRIDGE, NETWORK = "plmtest0", "10.213.77"
SMALL = 32 << 20
KEEP = f"{sys.prefix} {sys.base_prefix} {ROOT}"
TOOLS = ("unshare", "setpriv", "nsenter", "ip", "mount", "sshd", "ssh", "ssh-keygen", "rsync", "ss")

OWN_TMP = """
set -e
mkdir -p "$ROOT/tmp"
for path in $KEEP; do  # what lies in /tmp and is needed, such as a virtual environment
    case "$path" in /tmp/*) mkdir -p "$ROOT/keep$path"; mount --bind "$path" "$ROOT/keep$path";; esac
done
mount --bind "$ROOT/tmp" /tmp
for path in $KEEP; do
    case "$path" in /tmp/*) mkdir -p "$path"; mount --bind "$ROOT/keep$path" "$path";; esac
done
"""

START = """
hostname "$NAME"
mount -t tmpfs none /run
mkdir -p /run/sshd
mount --bind "$ROOT/passwd" /etc/passwd
mount --bind "$ROOT/resolv.conf" /etc/resolv.conf
ip link set lo up
until ip link show eth0 > /dev/null 2>&1; do sleep 0.1; done
ip address add "$ADDRESS/24" dev eth0
ip link set eth0 up
ip route add default via "$GATEWAY"  # leads nowhere; Ray looks up its own address by the way out
ip route add unreachable 169.254.0.0/16  # no cloud's metadata here: a quick no, where silence would take ten seconds
exec "$SSHD" -D -e -f "$ROOT/sshd_config"
"""

SSHD = """
ListenAddress {address}
HostKey {root}/host_key
AuthorizedKeysFile {key}.pub
StrictModes no
PermitRootLogin prohibit-password
PasswordAuthentication no
UsePAM no
PidFile none
"""


def why_not() -> str | None:
    """What this machine lacks for hosts of its own; None: nothing."""
    if os.geteuid() != 0:
        return "namespaces with a network of their own need root"
    if lacking := [tool for tool in TOOLS if not _tool(tool)]:
        return f"not installed here: {', '.join(lacking)}"
    _sweep()
    made = _ip("link", "add", BRIDGE, "type", "bridge")
    if made.returncode:
        return f"no bridge can be made here: {made.stderr.strip()}"
    _ip("link", "delete", BRIDGE)
    tried = subprocess.run(
        ["unshare", "--net", "--pid", "--fork", "--mount", "--mount-proc", "--uts", "true"], capture_output=True
    )
    return f"no namespaces here: {tried.stderr.decode().strip()}" if tried.returncode else None


def _sweep() -> None:
    """Take away the bridge of a test that was killed: its hosts went with it."""
    ports = Path(f"/sys/class/net/{BRIDGE}/brif")
    if ports.is_dir() and not list(ports.iterdir()):
        _ip("link", "delete", BRIDGE)


def _tool(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def _ip(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["ip", *arguments], capture_output=True, text=True)


@dataclass(frozen=True)
class Host:
    """One host: what an address, a home and a process table of its own make."""

    name: str
    address: str
    root: Path
    process: subprocess.Popen[bytes]

    @property
    def home(self) -> Path:
        return self.root / "home"

    @property
    def first(self) -> int:
        """The process, seen from outside, that everything on the host descends from."""
        return int(Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()[0])

    def run(self, command: str, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        """Run a shell command on the host, without SSH."""
        inside = ["nsenter", "--target", str(self.first), "--net", "--pid", "--mount", "--uts", "bash", "-c", command]
        return subprocess.run(inside, capture_output=True, text=True, timeout=timeout, cwd="/")

    def processes(self) -> list[str]:
        """Command lines of all that runs there, but for sshd and the question itself."""
        lines = self.run("ps -eo pid=,args= --no-headers").stdout.splitlines()
        found = [line.split(None, 1)[1] for line in lines if line.strip()]
        return [c for c in found if "sshd" not in c and not c.startswith(("ps -eo", "bash -c ps -eo"))]

    def cut(self) -> None:
        """Take the host off the network."""
        _must("link", "set", f"{BRIDGE}-{self.name}", "down")

    def mend(self) -> None:
        """Put it back."""
        _must("link", "set", f"{BRIDGE}-{self.name}", "up")

    def kill(self) -> None:
        """Power off: every process of the host at once."""
        with contextlib.suppress(OSError, IndexError):  # it has ended, or never began
            os.kill(self.first, signal.SIGKILL)
        self.process.wait()


@dataclass(frozen=True)
class Hosts:
    """Some hosts, a folder that all see, and a machine without a Ray of its own to command them from."""

    hosts: tuple[Host, ...]
    root: Path
    key: Path

    @property
    def store(self) -> Path:
        return self.root / "store"

    @property
    def small(self) -> Path:
        """Another one, on a disk of its own of `SMALL` bytes."""
        return self.root / "small"

    @property
    def laptop(self) -> Path:
        """The home from which `ray up` is typed."""
        return self.root / "laptop"

    def command(self, command: str, timeout: float, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a shell command on the laptop; its /tmp, where `ray up` notes what it started, is its own too."""
        inside = f"{OWN_TMP}\ncd {ROOT}\n{command}"
        keep = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "PLM_"))}
        settings = {"HOME": str(self.laptop), "ROOT": str(self.laptop), "KEEP": KEEP, "TERM": "dumb", **environment}
        return subprocess.run(
            ["unshare", "--pid", "--fork", "--kill-child", "--mount", "--mount-proc", "bash", "-c", inside],
            capture_output=True,
            text=True,
            timeout=timeout,
            env=keep | settings,
        )


@contextlib.contextmanager
def hosts(count: int, bashrc: Mapping[str, str]) -> Iterator[Hosts]:
    """Bring up some hosts; all is gone at the end.

    Args:
        bashrc: What every shell on them finds in its environment.
    """
    root = Path(tempfile.mkdtemp(prefix="plm-hosts-", dir="/var/tmp"))
    made: list[Host] = []
    try:
        key = root / "key"
        _keygen(key)
        for name in ("store", "small", "laptop"):
            (root / name).mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SMALL}", "none", root / "small"], check=True)
        _must("link", "add", BRIDGE, "type", "bridge")
        _must("address", "add", f"{NETWORK}.1/24", "dev", BRIDGE)
        _must("link", "set", BRIDGE, "up")
        for number in range(count):
            made.append(_boot(f"h{number}", f"{NETWORK}.{10 + number}", root, key, bashrc))
        for host in made:
            _await_ssh(host, key)
        yield Hosts(tuple(made), root, key)
    finally:
        for host in made:
            host.kill()
        _await_gone()
        _ip("link", "delete", BRIDGE)
        subprocess.run(["umount", "--lazy", root / "small"], stderr=subprocess.DEVNULL)
        shutil.rmtree(root)


def _await_gone() -> None:
    """The kernel takes a dead namespace's links away when it comes to it."""
    for _ in range(100):
        if not list(Path("/sys/class/net").glob(f"{BRIDGE}-*")):
            return
        time.sleep(0.1)


def _must(*arguments: str) -> None:
    result = _ip(*arguments)
    assert result.returncode == 0, f"ip {' '.join(arguments)}: {result.stderr}"


def _keygen(path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)


def _boot(name: str, address: str, root: Path, key: Path, bashrc: Mapping[str, str]) -> Host:
    own = root / name
    (own / "home").mkdir(parents=True)
    (own / "home" / ".bashrc").write_text("".join(f"export {n}={_quoted(v)}\n" for n, v in bashrc.items()))
    (own / "passwd").write_text(
        "".join(
            f"root:x:0:0:root:{own}/home:/bin/bash\n" if line.startswith("root:") else line
            for line in Path("/etc/passwd").read_text().splitlines(keepends=True)
        )
    )
    (own / "resolv.conf").write_text("nameserver 127.0.0.1\n")  # nobody answers there, at once
    _keygen(own / "host_key")
    (own / "sshd_config").write_text(SSHD.format(address=address, root=own, key=key))
    settings = {
        "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin",
        "NAME": name,
        "ADDRESS": address,
        "GATEWAY": f"{NETWORK}.1",
        "ROOT": str(own),
        "KEEP": KEEP,
        "SSHD": str(_tool("sshd")),
    }
    spaces = ["--net", "--pid", "--fork", "--kill-child", "--mount", "--mount-proc", "--uts"]
    with (own / "log").open("wb") as log:
        process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "unshare", *spaces, "bash", "-c", OWN_TMP + START],
            env=settings,
            stderr=log,
            cwd="/",
        )
    host = Host(name, address, own, process)
    outside = f"{BRIDGE}-{name}"
    _await(lambda: _children(process.pid), f"host {name} has no process")
    _must("link", "add", outside, "type", "veth", "peer", "name", "eth0", "netns", str(host.first))
    _must("link", "set", outside, "master", BRIDGE)
    _must("link", "set", outside, "up")
    return host


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '\\"') + '"'  # $HOME is to become the host's own


def _children(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return bool(Path(f"/proc/{pid}/task/{pid}/children").read_text().strip())
    return False


def _await_ssh(host: Host, key: Path) -> None:
    command = ["ssh", "-i", str(key), "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]
    command += ["-o", "ConnectTimeout=5", "-o", "BatchMode=yes", f"root@{host.address}", "true"]

    def answers() -> bool:
        assert host.process.poll() is None, f"host {host.name} ended: {(host.root / 'log').read_text()[-500:]}"
        return subprocess.run(command, capture_output=True).returncode == 0

    _await(answers, f"{host.name} does not answer SSH: {(host.root / 'log').read_text()[-500:]}")


def _await(condition: object, message: str, seconds: float = 60) -> None:
    assert callable(condition)
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, message
        time.sleep(0.2)
