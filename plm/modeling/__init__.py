"""Modules that transformers lacks: ELECTRA with its generator, ALBERT that shares a part of each layer.

`plm.models` says which architecture is meant, as a value that a plan can hold without torch; these are the modules where
transformers has none. After `import plm.modeling` transformers' automatic classes know them, in any process that reads
a checkpoint; whatever in `plm` reads or writes one imports this first.
"""

from plm.modeling import albert, electra

__all__ = ["albert", "electra"]
