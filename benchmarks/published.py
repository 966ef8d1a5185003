"""Networks of transformers in the sizes that they were published in, to time analysis on.

The zoo's own are small, so that they go through all forms and formats in no time; a forward pass
of those takes a millisecond and says little. Weights are random.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.architectures import (
    Inputs,
    OneField,
    Towers,
    images,
    import_torchvision,
    randomise,
    tokens,
)


@dataclass(frozen=True)
class Published:
    """A network in its published size.

    Attributes:
        make: makes it, of the library.
        inputs: makes inputs of a usual size for a batch size.
        short: makes the smallest it takes, for those who only trace it; None: `inputs` does.
    """

    make: Callable[[Any], nn.Module]
    inputs: Inputs
    short: Inputs | None = None

    def shortest(self, batch: int) -> tuple[Tensor, ...]:
        """The smallest inputs it takes."""
        return (self.short or self.inputs)(batch)

    def build(self) -> nn.Module:
        """The network, in evaluation."""
        import_torchvision()
        return randomise(self.make(importlib.import_module("transformers")))


def _clip(library: Any) -> nn.Module:
    return Towers(
        library.CLIPTextModelWithProjection(library.CLIPTextConfig()),
        library.CLIPVisionModelWithProjection(library.CLIPVisionConfig()),
    )


def _llama(library: Any) -> nn.Module:
    """SmolLM2-135M: of Llama's architecture, with grouped queries, and small enough for a CPU."""
    config = library.LlamaConfig(
        vocab_size=49152,
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=30,
        num_attention_heads=9,
        num_key_value_heads=3,
        tie_word_embeddings=True,
        use_cache=False,
    )
    return OneField(library.LlamaForCausalLM(config), "logits", use_cache=False)


PUBLISHED: Mapping[str, Published] = {
    "bert": Published(
        lambda t: OneField(t.BertForSequenceClassification(t.BertConfig()), "logits"),
        tokens(128),
        tokens(12),
    ),
    "vit_transformers": Published(
        lambda t: OneField(t.ViTForImageClassification(t.ViTConfig()), "logits"), images(224)
    ),
    "dinov2": Published(
        lambda t: OneField(t.Dinov2ForImageClassification(t.Dinov2Config(patch_size=14)), "logits"),
        images(224),
    ),
    "gpt2": Published(
        lambda t: OneField(
            t.GPT2LMHeadModel(t.GPT2Config(use_cache=False)), "logits", use_cache=False
        ),
        tokens(128),
        tokens(12),
    ),
    "llama_gqa": Published(_llama, tokens(128), tokens(12)),
    "clip": Published(
        _clip, lambda batch: (torch.randint(0, 100, (batch, 77)), torch.randn(batch, 3, 224, 224))
    ),
}
"""By the names of the zoo: BERT base, ViT-B/16, DINOv2-B/14, GPT-2, SmolLM2-135M, CLIP ViT-B/32.

Texts are of 128 tokens, and CLIP's of its 77.
"""
