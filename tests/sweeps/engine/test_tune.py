"""What a driver makes of what Ray tells it, without a cluster."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from sweeps.engine import tune


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Those that Ray says there are; the driver is on the one that is called `here`."""
    found: list[dict[str, Any]] = []
    monkeypatch.setattr(tune.ray, "get_runtime_context", lambda: SimpleNamespace(get_node_id=lambda: "here"))
    monkeypatch.setattr(tune.ray, "nodes", lambda: found)
    return found


def test_a_driver_whose_node_has_died_ends(nodes: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tune, "LOOK_SECONDS", -1.0)
    feed: Any = SimpleNamespace(progress=SimpleNamespace(tick=lambda: None))
    watch = tune.Watch(feed, lambda: None)
    nodes += [{"NodeID": "there", "Alive": True}, {"NodeID": "here", "Alive": True}]
    watch.on_step_end(0, [])
    nodes[1]["Alive"] = False
    with pytest.raises(ConnectionError, match="the same command goes on"):
        watch.on_step_end(0, [])
