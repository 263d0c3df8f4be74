"""Any architecture that transformers can build, from a config.json: its content is the value, wherever it came from."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from plm.models import Model, shape
from plm.registry import unknown

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

ASIDE = (
    "_name_or_path",
    "architectures",
    "auto_map",
    "dtype",
    "id2label",
    "label2id",
    "num_labels",
    "problem_type",
    "torch_dtype",
    "transformers_version",
    "use_cache",
)
"""Fields that say nothing of a fresh model's numbers, or belong to a head: an objective sets those."""


@dataclass(frozen=True)
class Configured(Model):
    """A transformers configuration. `plm.architecture(folder_or_hub_id)` makes one."""

    kind: ClassVar[str] = "models/configured"
    version: ClassVar[int] = 1
    json: str
    """The fields of config.json, but for `ASIDE`, as JSON with sorted keys."""

    def __post_init__(self) -> None:
        if self.json != canonical(self.sizes()):
            raise ValueError("the JSON of a configuration is not in its canonical form: use plm.architecture(folder).")
        if not isinstance(self.sizes().get("model_type"), str):
            raise ValueError("a configuration without a model_type: transformers cannot tell what to build from it.")
        shape(self)

    @property
    def model_type(self) -> str:
        return str(self.sizes()["model_type"])

    def sizes(self) -> dict[str, Any]:
        return json.loads(self.json)

    def config(self) -> PreTrainedConfig:
        from transformers import AutoConfig

        import plm.modeling  # noqa: F401  # makes AutoConfig know our own

        return type(AutoConfig.for_model(self.model_type)).from_dict(self.sizes())


def configured(name: str, **fields: Any) -> Configured:
    """The architecture of a local folder or hub id, with some of its fields replaced.

    Raises:
        ValueError: there is no such folder or id, its config.json is of no known family, or has no such field.
    """
    document = json.loads(_config_file(name).read_text())
    value = Configured(canonical(document))
    try:
        known = value.config().to_dict()
    except Exception as error:  # transformers raises a different type for each kind of misfit
        raise ValueError(
            f"{name}: transformers cannot read its config.json ({type(error).__name__}: {str(error).splitlines()[0]})."
        ) from error
    aliases = type(value.config()).attribute_map
    for field in fields:
        if field not in {*known, *aliases}:
            raise unknown(f"field of {name}", field, known)
    return Configured(canonical(document | {aliases.get(field, field): given for field, given in fields.items()}))


def canonical(document: dict[str, Any]) -> str:
    """The JSON text that stands for a configuration."""
    kept = {field: given for field, given in document.items() if field not in ASIDE}
    return json.dumps(kept, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _config_file(name: str) -> Path:
    folder = Path(name).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise ValueError(
                f"{folder} has no config.json: it holds {', '.join(sorted(p.name for p in folder.iterdir())[:8])}."
            )
        return folder / "config.json"
    if name.startswith((".", "/", "~")):
        raise ValueError(f"there is no folder {name!r}. An architecture is a named size, a local folder or a hub id.")
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(name, "config.json"))
    except Exception as error:  # the hub's client raises a different type for each way of not being there
        raise ValueError(
            f"the configuration of {name} could not be had from the hub ({type(error).__name__}: "
            f"{str(error).splitlines()[0]}). Without a network, give a local folder."
        ) from error
