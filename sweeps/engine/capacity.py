"""What a cluster may grow to: the nodes that its autoscaler may start, beside those that are there.

`ray up` leaves the cluster's own file on the head; on any other machine, and where nobody ran `ray up`, nothing grows.
"""

from __future__ import annotations

import json
from pathlib import Path

LEFT_BY_RAY_UP = Path("~/ray_bootstrap_config.yaml")


def largest() -> list[dict[str, float]]:
    """The resources of each node at the cluster's largest, the head among them; empty: nothing is known to grow."""
    try:
        config = json.loads(LEFT_BY_RAY_UP.expanduser().read_text())  # JSON, although its name says otherwise
        kinds, head = config["available_node_types"], config["head_node_type"]
        most = {name: int(kind.get("max_workers", 0)) + (name == head) for name, kind in kinds.items()}
        nodes = [
            dict(kind["resources"])
            for name, kind in sorted(kinds.items(), key=lambda item: item[0] != head)
            for _ in range(most[name])
            if kind.get("resources")  # machines that are owned say what they have when they come
        ]
        return nodes[: int(config.get("max_workers", len(nodes))) + 1]
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return []
