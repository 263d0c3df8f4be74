"""On three real hosts, over SSH: `ray up`, the same commands as on a laptop, and nothing left behind.

In the order of a user's day: each test goes on where the one before it ended.
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from answered import results, table
from cluster import hosts
from cluster.testbed import PATIENCE, RAY, Cluster, cluster, why_no_cluster
from cluster.watch import finished, holders, wait_for
from tiny import SIZES, perturbed, save_model, sentence, write_task

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600), pytest.mark.xdist_group("hosts")]
SECRET = "Authentication token is missing or incorrect"


@pytest.fixture(scope="module")
def three() -> Iterator[Cluster]:
    if reason := why_no_cluster():
        pytest.skip(reason)
    with cluster(3) as here:
        yield here


@pytest.fixture(scope="module")
def question(three: Cluster) -> str:
    """What follows `python -m sweeps.reinit_grid`: a grid of twelve runs, its model and task where all hosts see them."""
    import torch
    from transformers import BertConfig, BertModel

    folder = three.hosts.root / "given"
    folder.mkdir()
    torch.manual_seed(0)
    model = save_model(perturbed(BertModel(BertConfig(**SIZES))), folder / "encoder")
    task = write_task(folder / "toy", lambda i: {"sentence": sentence(i), "label": i % 2})
    return f"model={model} task={task} size=24 seed=0:4 duration=steps:20 lr=1e-3"


def test_hosts_vanish() -> None:
    if reason := hosts.why_not():
        pytest.skip(reason)
    with hosts.hosts(2, {}) as two:
        first = [host.first for host in two.hosts]
        assert [host.run("hostname; pgrep -c .").stdout.split()[0] for host in two.hosts] == ["h0", "h1"]
    assert not two.root.exists()
    assert hosts.BRIDGE not in Path("/proc/net/dev").read_text()
    assert str(two.root) not in Path("/proc/mounts").read_text()
    assert not any(Path(f"/proc/{pid}").exists() for pid in first)


def test_every_host_joins(three: Cluster) -> None:
    end = time.monotonic() + PATIENCE
    while "/3.0 CPU" not in (said := three.on_head("ray status").stdout):
        assert time.monotonic() < end, said[-1500:]
        time.sleep(5)


def test_what_is_open_is_open_to_the_cluster_alone(three: Cluster) -> None:
    """Ray's pages and agents are on loopback or the private address; what listens on all addresses asks for the token."""
    for host in three.hosts.hosts:
        listening = host.run("ss -Hltn").stdout
        ports = {int(p): address for address, p in re.findall(r"(\S+):(\d+)\s+\S+:\*", listening)}
        assert ports[22] == host.address
        assert ports.get(8265, "127.0.0.1") == "127.0.0.1"
    head = three.hosts.hosts[0].address
    strangers = three.hosts.root / "stranger"
    for mode, token in (("disabled", ""), ("token", "7" * 64)):
        (strangers / ".ray").mkdir(parents=True, exist_ok=True)
        (strangers / ".ray" / "auth_token").write_text(token)
        asked = f"export HOME={strangers} RAY_AUTH_MODE={mode}; {RAY} status --address {head}:6379"
        refused = three.hosts.command(asked, PATIENCE)
        assert refused.returncode != 0
        assert SECRET in refused.stdout + refused.stderr


def test_a_sweep_is_submitted_from_the_laptop(three: Cluster, question: str) -> None:
    command = f"python -m sweeps.reinit_grid {question} --store ~/plm-sweeps/runs"
    ran = three.on_head(f"ray job submit --submission-id first -- {command}")
    assert ran.returncode == 0, ran.stdout[-3000:]
    assert "12 runs: 0 finished before, 12 to run" in ran.stdout
    assert "12/12 done" in three.on_head("ray job logs first").stdout  # as who comes back later sees it


def test_every_host_did_trials_and_none_was_done_twice(three: Cluster) -> None:
    attempts = [
        [json.loads(file.read_text()) for file in run.glob("attempts/*.json")]
        for run in (three.hosts.store / "runs").iterdir()
    ]
    assert [len(records) for records in attempts] == [1] * 12
    done = Counter(record["holder"]["host"] for (record,) in attempts if record["outcome"] == "done")
    assert set(done) == {"h0", "h1", "h2"}
    assert done.total() == 12


def test_the_table_is_that_of_one_machine(three: Cluster, question: str) -> None:
    alone = three.hosts.root / "alone"
    ran = three.hosts.command(
        f"{sys.executable} -m sweeps.reinit_grid {question} --local --store {alone}", PATIENCE, OMP_NUM_THREADS="1"
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    assert results(alone) == results(three.hosts.store)
    assert table(alone) == table(three.hosts.store)
    assert len({row["val/loss"] for row in results(alone)}) == 12, "runs that cannot be told apart show nothing"


def test_on_the_head_the_same_command_finds_the_cluster_and_what_is_done(three: Cluster, question: str) -> None:
    again = three.on_head(f"cd plm-sweeps && python -m sweeps.reinit_grid {question}")
    assert again.returncode == 0, again.stdout[-2000:]
    assert "12 runs: 12 finished before, 0 to run" in again.stdout


def test_two_hosts_pretrain_and_finetune_a_model_together(three: Cluster) -> None:
    """The default question with one answer: its parent is pretrained, and fine-tuned, by two workers on two hosts."""
    store = three.hosts.root / "stores" / "pretrained"
    words = f"--smoke mask=none task=sentiment size=100 --workers 2 --store {store}"
    ran = three.on_head(f"cd plm-sweeps && python -m sweeps.reinit_grid {words}")
    assert ran.returncode == 0, ran.stdout[-3000:]
    assert "1 of 1 cells finished" in ran.stdout
    assert [run.name.partition("-")[0] for run in sorted(store.glob("runs/*"))] == ["classify", "mlm"]
    begun = [each for run in store.glob("runs/*") for each in json.loads((run / "environment.json").read_text())]
    assert [each["workers"] for each in begun] == [2, 2]  # each host has one CPU: they were on two


def test_real_weights_on_three_hosts(three: Cluster, shared: Path) -> None:
    """Six layers of a pretrained encoder on SST-2: every host does trials, and the table is that of one machine."""
    model, task = (shared / "models/minilm-l6").resolve(), (shared / "data/sst2").resolve()
    words = f"model={model} task={task} size=100 mask=000000,000111,111111 seed=0:2 duration=epochs:1"
    there, alone = (three.hosts.root / "stores" / name for name in ("real", "real-alone"))
    ran = three.on_head(f"cd plm-sweeps && python -m sweeps.reinit_grid {words} --store {there}")
    assert ran.returncode == 0, ran.stdout[-3000:]
    attempts = [json.loads(file.read_text()) for file in there.glob("runs/*/attempts/*.json")]
    assert {attempt["holder"]["host"] for attempt in attempts} == {"h0", "h1", "h2"}
    assert len(attempts) == 6
    command = f"{sys.executable} -m sweeps.reinit_grid {words} --local --store {alone}"
    ran = three.hosts.command(command, PATIENCE, OMP_NUM_THREADS="1")
    assert ran.returncode == 0, ran.stderr[-2000:]
    assert results(there) == results(alone)
    assert table(there) == table(alone)
    print(table(there))


def test_a_host_that_loses_its_power_costs_no_run(three: Cluster, question: str) -> None:
    words = question.replace("seed=0:4", "seed=10:14").replace("steps:20", "steps:300")
    command = f"python -m sweeps.reinit_grid {words} --store ~/plm-sweeps/runs"
    before = finished(three.hosts.store)
    assert three.on_head(f"ray job submit --no-wait --submission-id second -- {command}").returncode == 0
    victim = three.hosts.hosts[-1]
    wait_for(lambda: victim.name in holders(three.hosts.store), "the last host was never given a run")
    victim.kill()
    wait_for(lambda: finished(three.hosts.store) == before + 12, "not all runs were finished")
    ended = three.on_head("ray job logs --follow second")
    assert "12/12 done" in ended.stdout, ended.stdout[-2000:]


def test_ray_down_leaves_no_process(three: Cluster) -> None:
    assert three.ray(f"down --yes {three.file}").returncode == 0
    living = [host for host in three.hosts.hosts if host.process.poll() is None]
    wait_for(lambda: not any(host.processes() for host in living), "Ray is still there", seconds=300)
