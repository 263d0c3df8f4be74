"""In which direction a model reads: from left to right, so that it can predict the next token, or both ways.

A family is judged by its name before anything is built: the usual ones are listed, of the others transformers knows which
it trains as causal or as masked language models. That says what is meant; what a model does is tried once it is built.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from plm.heads import encode

if TYPE_CHECKING:
    from torch import Tensor

CAUSAL = ("openai-gpt", "gpt2", "gpt_neo", "gpt_neox", "gptj", "llama", "mistral", "opt", "qwen2")
BIDIRECTIONAL = (
    "bert",
    "roberta",
    "albert",
    "albert-sharing",
    "electra",
    "distilbert",
    "mpnet",
    "deberta",
    "deberta-v2",
    "modernbert",
)
"""Families that are known without asking transformers, which takes seconds."""
TRIED = 8
"""Tokens of the text that a model is tried on."""


def is_causal(model_type: str) -> bool:
    """Whether a family is for causal language models: transformers has such a head for it, and none for masked tokens."""
    if model_type in CAUSAL + BIDIRECTIONAL:
        return model_type in CAUSAL
    causal, masked = _trained_as(model_type)
    return causal and not masked


def is_masked(model_type: str) -> bool:
    """Whether a family is for masked language models: transformers has such a head for it."""
    if model_type in CAUSAL + BIDIRECTIONAL:
        return model_type in BIDIRECTIONAL
    return _trained_as(model_type)[1]


def _trained_as(model_type: str) -> tuple[bool, bool]:
    """Whether transformers has a head for causal, and one for masked language models of a family."""
    from transformers import CONFIG_MAPPING, MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_FOR_MASKED_LM_MAPPING

    import plm.modeling  # noqa: F401  # makes transformers know our own

    if model_type not in CONFIG_MAPPING:
        return False, False
    config = CONFIG_MAPPING[model_type]
    return config in MODEL_FOR_CAUSAL_LM_MAPPING, config in MODEL_FOR_MASKED_LM_MAPPING


def sees_later(model: Any, seq_len: int) -> bool:
    """Whether a model's hidden states depend on later tokens: tried on two short texts that begin alike.

    Args:
        seq_len: The longest text that it has to read; two tokens at least.
    """
    import torch

    length, was_training = min(TRIED, seq_len), model.training
    ids = _tokens(model, length + 1)
    changed = torch.cat([ids[: length // 2], ids[length // 2 + 1 :]])
    model.eval()
    with torch.no_grad():
        one, other = (_hidden(model, text)[: length // 2] for text in (ids[:-1], changed))
    model.train(was_training)
    # Sums of zeros are exact; what rounding may still leave (experts, for one, take their tokens together) is smaller.
    return bool((one - other).abs().max() > 1e-5 * one.abs().max())


def _tokens(model: Any, count: int) -> Tensor:
    """Ids from the middle of the vocabulary; never the padding token, from which some families count positions."""
    import torch

    rows, pad = model.get_input_embeddings().weight.shape[0], model.config.pad_token_id
    known = torch.arange(rows)
    known = known[known != pad] if pad is not None else known
    return known[(len(known) // 2 + torch.arange(count)) % len(known)]


def _hidden(model: Any, ids: Tensor) -> Tensor:
    """Hidden states (T, D) of one text."""
    import torch

    device = next(model.parameters()).device
    batch = {"input_ids": ids[None].to(device), "attention_mask": torch.ones_like(ids)[None].to(device)}
    return encode(model, batch)[0][0]
