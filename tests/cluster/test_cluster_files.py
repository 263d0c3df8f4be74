"""The shipped cluster files: what Ray accepts, and what a user relies on without reading them."""

from __future__ import annotations

import copy
import json
import re
import tomllib
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from cluster.files import FILES, ROOT, commands, load
from packaging.requirements import Requirement

PRIVATE = re.compile(r"(?:http://)?127\.0\.0\.1|http://169\.254\.169\.254|\d+\.\d+\.\d+\.0/\d+|192\.168\.1\.\d+")


def prepared(config: dict[str, Any]) -> dict[str, Any]:
    """A file as Ray understands it, its own defaults filled in; raises where Ray would."""
    from ray.autoscaler._private.util import prepare_config, validate_config

    result = prepare_config(copy.deepcopy(config))
    validate_config(result)
    return result


@pytest.fixture(params=FILES)
def config(request: pytest.FixtureRequest) -> dict[str, Any]:
    return load(request.param)


def test_ray_accepts_it_and_would_not_accept_anything(config: dict[str, Any]) -> None:
    from jsonschema import ValidationError

    assert prepared(config)["cluster_name"] == "plm-sweeps"
    with pytest.raises(ValidationError):
        prepared(config | {"idle_timeout": 5})


def test_nothing_of_rays_defaults_comes_in(config: dict[str, Any]) -> None:
    text = json.dumps(prepared(config))
    assert "0.0.0.0" not in text.replace("10.0.0.0/8", ""), "a service that all the world may speak to"
    assert "ray-wheels" not in text
    assert "3.0.0.dev0" not in text


def test_every_address_is_private(config: dict[str, Any]) -> None:
    found = re.findall(r"(?:http://)?\d+\.\d+\.\d+\.\d+(?:/\d+)?", json.dumps(config))
    assert found
    assert [a for a in found if not PRIVATE.fullmatch(a)] == []
    assert "--dashboard-host=127.0.0.1" in commands(config, "ray start --head")


def test_every_node_asks_for_the_token(config: dict[str, Any]) -> None:
    assert config["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"
    assert config["initialization_commands"][0] == "chmod 600 ~/.ray/auth_token"
    assert "RAY_AUTH_MODE=token" in commands(
        config, "~/.bashrc"
    )  # every later shell: `ray status`, `python -m sweeps...`
    for who in ("head", "worker"):
        (start,) = [c for c in config[f"{who}_start_ray_commands"] if "ray start" in c]
        assert re.search(r"RAY_AUTH_MODE=token (setsid )?ray start", start)


def test_every_node_has_the_same_versions_and_they_are_those_of_the_project(config: dict[str, Any]) -> None:
    pins = re.findall(
        r"([\w-]+)(?:\[[\w,]+\])?==([\d.]+)", commands({"setup_commands": config["setup_commands"]}, "==")
    )
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    listed = [Requirement(r) for r in project["dependencies"] + project["optional-dependencies"]["cluster"]]
    asked = {requirement.name: requirement.specifier for requirement in listed}
    assert {"ray", "torch", "transformers", "datasets", "optuna", "mlflow"} <= {name for name, _ in pins}
    for name, pin in pins:
        assert pin in asked[name], f"{name}=={pin} is not of {asked[name]}"
        if name == "ray":
            assert version(name) == pin
    assert "==" not in commands({k: v for k, v in config.items() if k != "setup_commands"}, "==")


def test_the_project_is_synced_and_nothing_else_of_the_checkout(config: dict[str, Any]) -> None:
    from_here = [path for path in config["file_mounts"].values() if not path.startswith("~")]
    assert sorted(from_here) == ["README.md", "plm", "pyproject.toml", "search_spaces", "sweeps"]
    assert all((ROOT / path).exists() for path in from_here)
    assert "__pycache__" in config["rsync_exclude"]


def test_the_default_store_is_the_shared_one(config: dict[str, Any]) -> None:
    (link,) = [c for c in config["setup_commands"] if "ln -sfn" in c]
    assert re.search(r"ln -sfn \$(STORE|store) ~/plm-sweeps/runs", link)
    named = re.findall(r"\b(?:STORE|store)=(\S+?);?\s", "\n".join(_lines(config)))
    assert len(named) == 1, f"the store is named {len(named)} times: {named}"


def test_a_sweep_on_the_head_finds_the_cluster(config: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    from sweeps.engine import launch
    from sweeps.reinit_grid import sweep

    (address,) = re.findall(r"RAY_ADDRESS=(\S+)", commands(config, "RAY_ADDRESS"))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert launch.parser(sweep).parse_args([]).address is None
    monkeypatch.setenv("RAY_ADDRESS", address)
    assert launch.parser(sweep).parse_args([]).address == "auto"


def test_on_aws_a_cluster_at_rest_is_its_head() -> None:
    config = prepared(load("cluster.yaml"))
    head, worker = (config["available_node_types"][name] for name in ("head", "worker"))
    assert config["head_node_type"] == "head"
    assert head["resources"] == {"CPU": 0, "GPU": 0}
    assert "InstanceMarketOptions" not in head["node_config"]
    assert worker["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}
    assert (worker["min_workers"], worker["resources"]["GPU"]) == (0, 1)
    assert 0 < config["idle_timeout_minutes"] <= 15
    for kind in (head, worker):  # Ray's own choice of image is too old to load torch
        assert kind["node_config"]["ImageId"].startswith("resolve:ssm:/aws/service/")
        assert kind["node_config"]["MetadataOptions"] == {"HttpTokens": "required"}


def test_on_aws_mlflow_speaks_to_the_head_alone() -> None:
    start = commands(load("cluster.yaml"), "mlflow server")
    assert "--host 127.0.0.1" in start
    assert "PLM_TRACKING_URI=http://127.0.0.1:5000" in start


def test_on_machines_of_ones_own_the_old_autoscaler_starts_the_workers() -> None:
    assert "RAY_enable_autoscaler_v2=0" in commands(load("cluster-local.yaml"), "ray start --head")


def test_a_sweep_waits_for_nodes_that_a_cluster_of_none_may_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sweeps.engine import capacity, tune
    from sweeps.engine.worker import Resources

    at_rest = [{"CPU": 0.0, "memory": 1e9}]
    monkeypatch.setattr(tune, "_nodes", lambda: at_rest)
    monkeypatch.setattr(capacity, "LEFT_BY_RAY_UP", tmp_path / "left.yaml")
    with pytest.raises(ValueError, match="the nodes have 0 CPUs and 0 GPUs"):
        tune.check_resources(Resources(gpus=1))
    (tmp_path / "left.yaml").write_text(json.dumps(prepared(load("cluster.yaml"))))
    tune.check_resources(Resources(gpus=1))
    assert tune.groups_that_fit(Resources(gpus=1)) == 8
    assert tune.groups_that_fit(Resources(gpus=0.5, cpus=2)) == 16
    assert tune.groups_that_fit(Resources(gpus=1, workers=3)) == 2
    with pytest.raises(ValueError, match="4 CPUs and 1 GPUs"):
        tune.check_resources(Resources(gpus=2))
    (tmp_path / "left.yaml").write_text(json.dumps(prepared(load("cluster-local.yaml"))))
    with pytest.raises(ValueError, match="the nodes have 0 CPUs"):
        tune.check_resources(Resources())


def _lines(config: dict[str, Any]) -> list[str]:
    return [c for name, value in config.items() if name.endswith("_commands") for c in value]
