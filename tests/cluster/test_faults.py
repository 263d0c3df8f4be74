"""Faults on three hosts during a sweep: what was finished is kept, each run is done once, the answers are those of one machine.

Each fault has a store of its own and the same question. After it the same command is typed again, and must find nothing to
do unless the fault ended the first call. What recovering took is printed (`-rP` shows it).
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from answered import results, table
from cluster.hosts import Host
from cluster.testbed import PATIENCE, Cluster, cluster, why_no_cluster
from cluster.watch import finished, wait_for
from tiny import SIZES, perturbed, save_model, sentence, write_task

pytestmark = [pytest.mark.soak, pytest.mark.timeout(3600), pytest.mark.xdist_group("hosts")]
RUNS = 6
OUTAGE = 60.0
"""Seconds that a host is without network, and twice as many that the tracking server is gone."""
ADDRESS = "http://127.0.0.1:5000"
SERVER = "~/venv/bin/mlflow server --host 127.0.0.1 --port 5000 --workers 1 --backend-store-uri sqlite:///$HOME/view.db"


@dataclass
class Bed:
    """A cluster, a question to ask it, and the answers of one machine."""

    cluster: Cluster
    question: str
    alone: Path
    asked: list[str] = field(default_factory=list)

    @property
    def head(self) -> Host:
        return self.cluster.hosts.hosts[0]

    def host(self, name: str) -> Host:
        return next(host for host in self.cluster.hosts.hosts if host.name == name)

    def ask(self, store: Path, *flags: str) -> str:
        """Submit the sweep and leave it to itself; the job's name."""
        self.asked.append(f"{store.name}-{len(self.asked)}")
        command = f"python -m sweeps.reinit_grid {self.question} --store {store} {' '.join(flags)}"
        ran = self.cluster.on_head(f"ray job submit --no-wait --submission-id {self.asked[-1]} -- {command}")
        assert ran.returncode == 0, ran.stdout[-2000:]
        return self.asked[-1]

    def said(self, job: str) -> str:
        """All that a job says, to its end."""
        return self.cluster.on_head(f"ray job logs --follow {job}").stdout

    def held(self, store: Path) -> dict[str, dict[str, Any]]:
        """Of the runs that are being trained the name and the newest attempt."""
        found = {}
        for run in store.glob("runs/*"):
            names = sorted(run.glob("attempts/*.json"))
            record = json.loads(names[-1].read_text()) if names else {"outcome": "none"}
            if record["outcome"] is None and not (run / "DONE").exists():
                found[run.name] = record
        return found

    def in_the_middle(self, store: Path, host: str | None = None) -> tuple[str, dict[str, Any]]:
        """Wait until something is finished and a run is under way (on some host); that run."""
        found: list[tuple[str, dict[str, Any]]] = []

        def there() -> bool:
            held = [(n, r) for n, r in self.held(store).items() if host in (None, r["holder"]["host"])]
            found[:] = held
            return finished(store) >= 1 and bool(held)

        wait_for(there, f"no run was under way (on {host})")
        return found[0]

    def check(self, store: Path, again: int = 0) -> None:
        """The same command finds all but `again` runs done; each is done once, and the answers are one machine's."""
        said = self.said(self.ask(store))
        assert f"{RUNS} runs: {RUNS - again} finished before, {again} to run" in said, said[-2000:]
        ends = [[json.loads(f.read_text())["outcome"] for f in run.glob("attempts/*")] for run in store.glob("runs/*")]
        assert sorted(outcomes.count("done") for outcomes in ends) == [1] * RUNS, ends
        assert results(store) == results(self.alone)
        assert table(store) == table(self.alone)


@pytest.fixture(scope="module")
def bed() -> Iterator[Bed]:
    if reason := why_no_cluster():
        pytest.skip(reason)
    with cluster(3) as here:
        given = here.hosts.root / "given"
        given.mkdir()
        question = _question(given)
        alone = given / "alone"
        command = f"{sys.executable} -m sweeps.reinit_grid {question} --local --store {alone}"
        ran = here.hosts.command(command, PATIENCE, OMP_NUM_THREADS="1")
        assert ran.returncode == 0, ran.stderr[-2000:]
        wait_for(lambda: "/3.0 CPU" in here.on_head("ray status").stdout, "not every host has joined")
        yield Bed(here, question, alone)


def _question(folder: Path) -> str:
    """Six runs, each of seconds."""
    import torch
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    model = save_model(perturbed(BertModel(BertConfig(**SIZES))), folder / "encoder")
    task = write_task(folder / "toy", lambda i: {"sentence": sentence(i), "label": i % 2})
    return f"model={model} task={task} size=24 seed=0:2 duration=steps:400 lr=1e-3"


@pytest.fixture
def store(bed: Bed, request: pytest.FixtureRequest) -> Path:
    return bed.cluster.hosts.root / "stores" / request.node.name.removeprefix("test_")


def took(what: str, since: float) -> None:
    print(f"{what}: {time.monotonic() - since:.0f} s")


def test_a_killed_worker(bed: Bed, store: Path) -> None:
    job = bed.ask(store)
    run, record = bed.in_the_middle(store)
    holder = record["holder"]
    assert bed.host(holder["host"]).run(f"kill -9 {holder['pid']}").returncode == 0
    since = time.monotonic()
    wait_for(lambda: len(list((store / "runs" / run / "attempts").iterdir())) > 1, "nobody took the run over")
    took("a killed worker's run was taken over after", since)
    assert f"{RUNS}/{RUNS} done" in bed.said(job)
    bed.check(store)


def test_a_killed_driver(bed: Bed, store: Path) -> None:
    bed.ask(store)
    bed.in_the_middle(store)
    drivers = bed.head.run("pgrep -f '^[^ ]*python[^ ]* -m sweeps.reinit_grid'").stdout.split()
    assert drivers
    assert bed.head.run(f"kill -9 {' '.join(drivers)}").returncode == 0
    before = finished(store)
    assert before < RUNS
    since = time.monotonic()
    again = bed.ask(store)
    wait_for(lambda: finished(store) > before, "nothing more was finished")
    took("after a killed driver, the same command until another run was finished", since)
    assert f"{RUNS}/{RUNS} done" in bed.said(again)
    bed.check(store)


def test_a_full_disk(bed: Bed) -> None:
    store, filler = bed.cluster.hosts.small / "store", bed.cluster.hosts.small / "filler"
    job = bed.ask(store)
    bed.in_the_middle(store)
    with pytest.raises(OSError, match="No space left"):
        fill(filler)
    said = bed.said(job)
    before = finished(store)
    assert before < RUNS
    assert "No space left" in said, said[-3000:]
    filler.unlink()
    since = time.monotonic()
    again = bed.ask(store)
    assert f"{RUNS}/{RUNS} done" in bed.said(again)
    took(f"after a full disk with {before} of {RUNS} runs finished, the same command ended after", since)
    bed.check(store)


def test_a_killed_raylet(bed: Bed, store: Path) -> None:
    job, last = bed.ask(store), bed.cluster.hosts.hosts[-1]
    run, _ = bed.in_the_middle(store, last.name)
    (raylet,) = last.run("pgrep -x raylet").stdout.split()
    assert last.run(f"kill -9 {raylet}").returncode == 0
    since = time.monotonic()
    wait_for(lambda: (store / "runs" / run / "DONE").exists(), "the run was lost with its raylet")
    took("a killed raylet's run was finished after", since)
    assert f"{RUNS}/{RUNS} done" in bed.said(job)
    wait_for(lambda: "/3.0 CPU" in bed.cluster.on_head("ray status").stdout, "the host did not come back")
    took("and its host was of the cluster again after", since)
    bed.check(store)


def test_a_host_without_network_for_a_minute(bed: Bed, store: Path) -> None:
    job, last = bed.ask(store), bed.cluster.hosts.hosts[-1]
    bed.in_the_middle(store, last.name)
    last.cut()
    since = time.monotonic()
    try:
        time.sleep(OUTAGE)
    finally:
        last.mend()
    assert f"{RUNS}/{RUNS} done" in bed.said(job)
    took("a host was off the network for a minute; the sweep ended after", since)
    wait_for(lambda: "/3.0 CPU" in bed.cluster.on_head("ray status").stdout, "the host did not come back")
    took("and the host was of the cluster again after", since)
    bed.check(store)


def test_a_tracking_server_that_is_gone_for_two_minutes(bed: Bed, store: Path) -> None:
    serve(bed.head)
    job = bed.ask(store, f"--tracking-uri {ADDRESS}")
    bed.in_the_middle(store)
    stop_serving(bed.head)
    since = time.monotonic()
    said = bed.said(job)
    took("with the tracking server gone, the sweep ended after", since)
    assert f"{RUNS}/{RUNS} done" in said
    assert f"the tracking server at {ADDRESS} does not answer; the runs are all in the store" in said
    time.sleep(max(0.0, 2 * OUTAGE - (time.monotonic() - since)))
    serve(bed.head)
    push = f"cd plm-sweeps && python -m sweeps.engine.tracking --store {store} --tracking-uri {ADDRESS}"
    assert f"{RUNS} runs shown" in bed.cluster.on_head(push).stdout
    assert f"{RUNS} runs shown, 0 of them sent" in bed.cluster.on_head(push).stdout
    bed.check(store)


def fill(path: Path) -> None:
    """Write until there is no room for a block."""
    with path.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(1 << 12))


def serve(host: Host) -> None:
    """Start an MLflow server on a host, in a session of its own."""
    place = f"export HOME={host.home}; cd ~; source ~/.bashrc"
    host.run(f"{place}; setsid sh -c 'echo $$ > ~/mlflow.pid; exec {SERVER}' > ~/mlflow.log 2>&1 < /dev/null &")
    wait_for(lambda: answers(host), "MLflow does not answer")


def stop_serving(host: Host) -> None:
    assert host.run(f"kill -9 -- -$(cat {host.home}/mlflow.pid)").returncode == 0
    assert not answers(host)


def answers(host: Host) -> bool:
    return host.run(f"curl -sf {ADDRESS}/health").returncode == 0
