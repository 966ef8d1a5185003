"""Networks in the sizes that they were published in, to time analysis on.

The zoo's own are small where a package lets one choose, so that they go through all forms and
formats in no time; a forward pass of those takes a millisecond and says little. Weights are random.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from benchmarks.architectures import (
    Convolution1d,
    EncoderDecoder,
    EncoderNet,
    GRUNet,
    Inputs,
    LSTMNet,
    OneField,
    SuperResolution,
    Towers,
    TwoInTwoOut,
    UNet,
    features,
    images,
    import_torchvision,
    randomise,
    timm,
    tokens,
    torchvision,
)


@dataclass(frozen=True)
class Published:
    """A network in its published size.

    Attributes:
        make: makes it.
        inputs: makes inputs of a usual size for a batch size.
        short: makes the smallest it takes, for those who only trace it; None: `inputs` does.
    """

    make: Callable[[], nn.Module]
    inputs: Inputs
    short: Inputs | None = None

    def shortest(self, batch: int) -> tuple[Tensor, ...]:
        """The smallest inputs it takes."""
        return (self.short or self.inputs)(batch)

    def build(self) -> nn.Module:
        """The network, in evaluation."""
        return randomise(self.make())


def _transformers(make: Callable[[Any], nn.Module]) -> Callable[[], nn.Module]:
    """What `make` makes of the library."""

    def build() -> nn.Module:
        import_torchvision()
        return make(importlib.import_module("transformers"))

    return build


def _normed(norm: Callable[[nn.Module], nn.Module]) -> nn.Module:
    """ResNet-18 with the weights of all convolutions normed."""
    network = torchvision("resnet18")()
    for module in list(network.modules()):
        if isinstance(module, nn.Conv2d):
            norm(module)
    return network


def _pairs(first: Inputs, second: Inputs) -> Inputs:
    return lambda batch: first(batch) + second(batch)


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


def _pythia(library: Any) -> nn.Module:
    """Pythia-70M."""
    config = library.GPTNeoXConfig(
        vocab_size=50304,
        hidden_size=512,
        intermediate_size=2048,
        num_hidden_layers=6,
        num_attention_heads=8,
        use_cache=False,
    )
    return OneField(library.GPTNeoXForCausalLM(config), "logits", use_cache=False)


PUBLISHED: Mapping[str, Published] = {
    "bert": Published(
        _transformers(
            lambda t: OneField(t.BertForSequenceClassification(t.BertConfig()), "logits")
        ),
        tokens(128),
        tokens(12),
    ),
    "vit_transformers": Published(
        _transformers(lambda t: OneField(t.ViTForImageClassification(t.ViTConfig()), "logits")),
        images(224),
    ),
    "dinov2": Published(
        _transformers(
            lambda t: OneField(
                t.Dinov2ForImageClassification(t.Dinov2Config(patch_size=14)), "logits"
            )
        ),
        images(224),
    ),
    "gpt2": Published(
        _transformers(
            lambda t: OneField(
                t.GPT2LMHeadModel(t.GPT2Config(use_cache=False)), "logits", use_cache=False
            )
        ),
        tokens(128),
        tokens(12),
    ),
    "llama_gqa": Published(_transformers(_llama), tokens(128), tokens(12)),
    "gpt_neox": Published(_transformers(_pythia), tokens(128), tokens(12)),
    "t5": Published(
        _transformers(lambda t: EncoderDecoder(t.T5ForConditionalGeneration(t.T5Config()))),
        _pairs(tokens(128), tokens(128)),
        _pairs(tokens(9), tokens(7)),
    ),
    "whisper": Published(
        _transformers(
            lambda t: EncoderDecoder(t.WhisperForConditionalGeneration(t.WhisperConfig()))
        ),
        _pairs(features(80, 3000), tokens(32)),
    ),
    "wav2vec2": Published(
        _transformers(lambda t: OneField(t.Wav2Vec2ForCTC(t.Wav2Vec2Config()), "logits")),
        features(16_000),
        features(2_000),
    ),
    "torch_encoder": Published(partial(EncoderNet, 37_000, 512, 8, 6), tokens(128), tokens(12)),
    "clip": Published(
        _transformers(_clip),
        lambda batch: (torch.randint(0, 100, (batch, 77)), torch.randn(batch, 3, 224, 224)),
    ),
    "unet": Published(partial(UNet, 64, 4), images(256), images(32)),
    "super_resolution": Published(partial(SuperResolution, 64, 16), images(96), images(24)),
    "group_norm": Published(timm("resnet50_gn"), images(224), images(64)),
    "cbam": Published(timm("resnet18", block_args={"attn_layer": "cbam"}), images(224), images(64)),
    "weight_norm": Published(
        partial(_normed, parametrizations.weight_norm), images(224), images(64)
    ),
    "spectral_norm": Published(
        partial(_normed, parametrizations.spectral_norm), images(224), images(64)
    ),
    "conv1d": Published(partial(Convolution1d, 128), features(1, 16_000), features(1, 128)),
    "conv3d": Published(
        torchvision("video.r3d_18"), features(3, 16, 112, 112), features(3, 4, 16, 16)
    ),
    "lstm": Published(partial(LSTMNet, 10_000, 650, 650), tokens(35)),
    "gru": Published(partial(GRUNet, 10_000, 650, 650), tokens(35)),
    "two_in_two_out": Published(
        partial(TwoInTwoOut, 64),
        lambda batch: (torch.randn(batch, 3, 224, 224), torch.randn(batch, 7)),
    ),
}
"""By the names of the zoo: BERT base, ViT-B/16, DINOv2-B/14, GPT-2, SmolLM2-135M, Pythia-70M, T5
small, Whisper tiny, wav2vec 2.0 base, the encoder of Vaswani et al. (2017), CLIP ViT-B/32, U-Net,
EDSR's baseline, ResNet-50 with group norm, ResNet-18 with CBAM, weight and spectral norm, R3D-18,
and recurrent nets of the size of Zaremba et al.'s medium language model (2014). Of the others there
is no published size: one second of speech, and images of 224 pixels.

Texts are of 128 tokens, CLIP's of its 77; U-Net sees 256 pixels, super-resolution makes 192 of 96.
"""
