"""The zoo: what people really have, from torchvision, timm, transformers and torch itself.

Weights are random and norm statistics randomised, so that nothing is zero or one by accident.
Networks that these packages do not have are defined here.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

Inputs = Callable[[int], tuple[Tensor, ...]]


@dataclass(frozen=True)
class Architecture:
    """One network of the zoo.

    Attributes:
        name: as in the table.
        build: makes the network, in evaluation.
        inputs: makes example inputs for a batch size, small where the network takes any size.
        native: makes inputs of the size that the network was published for; None: `inputs` does.
        recurrent: has recurrent layers, which the coverage target leaves out.
    """

    name: str
    build: Callable[[], nn.Module]
    inputs: Inputs
    native: Inputs | None = None
    recurrent: bool = False

    def native_inputs(self, batch: int) -> tuple[Tensor, ...]:
        """Inputs of the published size."""
        return (self.native or self.inputs)(batch)


def images(size: int, channels: int = 3) -> Inputs:
    return lambda batch: (torch.randn(batch, channels, size, size),)


def tokens(length: int, vocabulary: int = 100) -> Inputs:
    return lambda batch: (torch.randint(0, vocabulary, (batch, length)),)


def features(*shape: int) -> Inputs:
    return lambda batch: (torch.randn(batch, *shape),)


def torchvision(path: str, **arguments: Any) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        import_torchvision()
        module, _, factory = f"torchvision.models.{path}".rpartition(".")
        network: nn.Module = getattr(importlib.import_module(module), factory)(
            weights=None, **arguments
        )
        return network

    return build


def timm(name: str, **arguments: Any) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        import_torchvision()
        network: nn.Module = importlib.import_module("timm").create_model(
            name, pretrained=False, **arguments
        )
        return network

    return build


_NMS = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


def import_torchvision() -> ModuleType:
    """torchvision, beside a torch that its compiled operators were not built for.

    Its Python registers fakes for two of them at import, which needs their schemas.
    """
    for name in ("nms", "qnms"):
        if not hasattr(torch.ops.torchvision, name):
            torch.library.define(
                f"torchvision::{name}",
                "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
            )
    return importlib.import_module("torchvision")


def randomise(network: nn.Module) -> nn.Module:
    """Give norms statistics, scales and offsets that a training could have left.

    Parameters that start at zero get small values, or they would hide what depends on them.
    """
    generator = torch.Generator().manual_seed(0)
    for parameter in network.parameters():
        if not bool(parameter.any()):
            parameter.data.normal_(0, 0.02, generator=generator)
    for module in network.modules():
        for name, low, high in (
            ("running_mean", -0.3, 0.3),
            ("running_var", 0.5, 2.0),
        ):
            tensor = getattr(module, name, None)
            if isinstance(tensor, Tensor):
                tensor.uniform_(low, high, generator=generator)
        if "norm" in type(module).__name__.lower():
            for name, low, high in (("weight", 0.5, 1.5), ("bias", -0.5, 0.5)):
                tensor = getattr(module, name, None)
                if isinstance(tensor, Tensor):
                    tensor.data.uniform_(low, high, generator=generator)
    return network.eval()


# --- networks that no package has ---------------------------------------------------------------


def _double(inward: int, outward: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inward, outward, 3, padding=1),
        nn.BatchNorm2d(outward),
        nn.ReLU(inplace=True),
        nn.Conv2d(outward, outward, 3, padding=1),
        nn.BatchNorm2d(outward),
        nn.ReLU(inplace=True),
    )


class _Level(nn.Module):
    """A level of a U-Net, and all below it at half the size and twice the width."""

    def __init__(self, inward: int, width: int, below: int) -> None:
        super().__init__()
        self.down = _double(inward, width)
        deeper = _Level(width, 2 * width, below - 1) if below > 1 else _double(width, 2 * width)
        self.deeper = deeper
        self.up, self.join = nn.ConvTranspose2d(2 * width, width, 2, 2), _double(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        x = self.down(x)
        y = self.up(self.deeper(functional.max_pool2d(x, 2)))
        return self.join(torch.cat([y, x], 1))


class UNet(nn.Module):
    def __init__(self, width: int = 16, levels: int = 2) -> None:
        super().__init__()
        self.body, self.head = _Level(3, width, levels), nn.Conv2d(width, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x))


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.inner = nn.Conv2d(width, width, 3, padding=1)
        self.outer = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.outer(functional.relu(self.inner(x)))


class SuperResolution(nn.Module):
    """Residual blocks and a sub-pixel convolution (pixel shuffle), as in EDSR."""

    def __init__(self, width: int = 24, blocks: int = 2) -> None:
        super().__init__()
        self.head = nn.Conv2d(3, width, 3, padding=1)
        self.body = nn.Sequential(*(_Residual(width) for _ in range(blocks)))
        self.grow = nn.Conv2d(width, width * 4, 3, padding=1)
        self.tail = nn.Conv2d(width, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.head(x)
        return self.tail(functional.pixel_shuffle(self.grow(x + self.body(x)), 2))


class GroupNormNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 32, 3, padding=1),
            nn.GroupNorm(4, 32),
            nn.SiLU(),
            nn.Conv2d(32, 64, 3, stride=2, padding=1),
            nn.GroupNorm(8, 64),
            nn.SiLU(),
        )
        self.head = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x).mean((2, 3)))


class CBAM(nn.Module):
    """Channel attention over mean and maximum, then spatial attention over channels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 32, 3, padding=1)
        self.squeeze, self.excite = nn.Linear(32, 8), nn.Linear(8, 32)
        self.conv2 = nn.Conv2d(32, 32, 3, padding=1)
        self.spatial = nn.Conv2d(2, 1, 7, padding=3)
        self.conv3 = nn.Conv2d(32, 32, 3, padding=1)
        self.head = nn.Linear(32, 10)

    def attend(self, x: Tensor) -> Tensor:
        return self.excite(functional.relu(self.squeeze(x)))

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.conv1(x))
        gate = torch.sigmoid(self.attend(x.mean((2, 3))) + self.attend(x.amax((2, 3))))
        x = self.conv2(x * gate[:, :, None, None])
        place = torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)
        x = self.conv3(x * torch.sigmoid(self.spatial(place)))
        return self.head(functional.relu(x).mean((2, 3)))


class WeightNormNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        norm = nn.utils.parametrizations.weight_norm
        self.conv1 = norm(nn.Conv2d(3, 16, 3, padding=1))
        self.conv2 = norm(nn.Conv2d(16, 32, 3, padding=1))
        self.head = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.conv2(functional.relu(self.conv1(x))))
        return self.head(x.mean((2, 3)))


class SpectralNormNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        norm = nn.utils.parametrizations.spectral_norm
        self.conv1 = norm(nn.Conv2d(3, 16, 3, padding=1))
        self.conv2 = norm(nn.Conv2d(16, 32, 3, padding=1))
        self.head = norm(nn.Linear(32, 10))

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.conv2(functional.relu(self.conv1(x))))
        return self.head(x.mean((2, 3)))


class Convolution1d(nn.Module):
    def __init__(self, width: int = 32) -> None:
        super().__init__()
        wide, last = 2 * width, 3 * width // 2
        self.body = nn.Sequential(
            nn.Conv1d(1, width, 9, stride=2, padding=4),
            nn.BatchNorm1d(width),
            nn.ReLU(),
            nn.Conv1d(width, wide, 5, padding=4, dilation=2),
            nn.BatchNorm1d(wide),
            nn.ReLU(),
            nn.MaxPool1d(2),
            nn.Conv1d(wide, wide, 3, padding=1, groups=wide),
            nn.Conv1d(wide, last, 1),
        )
        self.head = nn.Linear(last, 6)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x).mean(-1))


class Convolution3d(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv3d(1, 16, 3, padding=1),
            nn.BatchNorm3d(16),
            nn.ReLU(),
            nn.MaxPool3d(2),
            nn.Conv3d(16, 32, 3, padding=1),
            nn.BatchNorm3d(32),
            nn.ReLU(),
            nn.AdaptiveAvgPool3d(1),
        )
        self.head = nn.Linear(32, 6)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x).flatten(1))


class LSTMNet(nn.Module):
    def __init__(self, vocabulary: int = 100, embedded: int = 24, hidden: int = 32) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocabulary, embedded)
        self.lstm = nn.LSTM(embedded, hidden, num_layers=2, batch_first=True)
        self.head = nn.Linear(hidden, 5)

    def forward(self, x: Tensor) -> Tensor:
        out, _ = self.lstm(self.embed(x))
        return self.head(out[:, -1])


class GRUNet(nn.Module):
    def __init__(self, vocabulary: int = 100, embedded: int = 24, hidden: int = 32) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocabulary, embedded)
        self.gru = nn.GRU(embedded, hidden, batch_first=True, bidirectional=True)
        self.head = nn.Linear(2 * hidden, 5)

    def forward(self, x: Tensor) -> Tensor:
        out, _ = self.gru(self.embed(x))
        return self.head(out.mean(1))


class EncoderNet(nn.Module):
    def __init__(
        self, vocabulary: int = 100, width: int = 48, heads: int = 4, layers: int = 2
    ) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(width, heads, 2 * width, batch_first=True)
        self.embed = nn.Embedding(vocabulary, width)
        self.encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.head = nn.Linear(width, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.encoder(self.embed(x)).mean(1))


class TwoInTwoOut(nn.Module):
    """Two inputs; a tensor and a dict come out."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        trunk = 3 * width // 2
        self.image = nn.Sequential(nn.Conv2d(3, width, 3, padding=1), nn.ReLU())
        self.vector = nn.Sequential(nn.Linear(7, width), nn.ReLU())
        self.trunk = nn.Linear(2 * width, trunk)
        self.scores, self.low, self.high = (nn.Linear(trunk, n) for n in (5, 2, 2))

    def forward(self, image: Tensor, vector: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        joined = torch.cat([self.image(image).mean((2, 3)), self.vector(vector)], 1)
        y = functional.relu(self.trunk(joined))
        return self.scores(y), {"low": self.low(y), "high": self.high(y)}


class Detector(nn.Module):
    """torchvision's ResNet-18 with a feature pyramid and RetinaNet's heads."""

    def __init__(self) -> None:
        super().__init__()
        import_torchvision()
        backbones = importlib.import_module("torchvision.models.detection.backbone_utils")
        retina = importlib.import_module("torchvision.models.detection.retinanet")
        self.backbone = backbones.resnet_fpn_backbone(
            backbone_name="resnet18", weights=None, trainable_layers=5
        )
        self.head = retina.RetinaNetHead(256, 3, 4)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        pyramid: dict[str, Tensor] = self.backbone(x)
        found: dict[str, Tensor] = self.head(list(pyramid.values()))
        return found


def transformer(kind: str) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        import_torchvision()
        library = importlib.import_module("transformers")
        width = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
        if kind == "bert":
            config = library.BertConfig(vocab_size=100, intermediate_size=96, **width)
            return OneField(library.BertForSequenceClassification(config), "logits")
        if kind == "vit":
            config = library.ViTConfig(intermediate_size=96, image_size=32, patch_size=8, **width)
            return OneField(library.ViTForImageClassification(config), "logits")
        if kind == "dinov2":
            config = library.Dinov2Config(image_size=28, patch_size=7, **width)
            return OneField(library.Dinov2ForImageClassification(config), "logits")
        if kind == "gpt2":
            config = library.GPT2Config(
                vocab_size=100, n_embd=48, n_layer=2, n_head=4, n_positions=1024, use_cache=False
            )
            return OneField(library.GPT2LMHeadModel(config), "logits", use_cache=False)
        if kind == "gpt_neox":
            config = library.GPTNeoXConfig(
                vocab_size=100, intermediate_size=96, use_cache=False, **width
            )
            return OneField(library.GPTNeoXForCausalLM(config), "logits", use_cache=False)
        if kind == "t5":
            config = library.T5Config(
                vocab_size=100, d_model=48, d_kv=12, d_ff=96, num_layers=2, num_heads=4
            )
            return EncoderDecoder(library.T5ForConditionalGeneration(config))
        if kind == "whisper":
            sides = {
                f"{side}_{key}": value
                for side in ("encoder", "decoder")
                for key, value in (("layers", 2), ("attention_heads", 4), ("ffn_dim", 96))
            }
            special = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
            config = library.WhisperConfig(
                vocab_size=100,
                num_mel_bins=16,
                d_model=48,
                max_source_positions=20,
                max_target_positions=32,
                decoder_start_token_id=1,
                **sides,
                **special,
            )
            return EncoderDecoder(library.WhisperForConditionalGeneration(config))
        if kind == "segformer":
            network = library.SegformerForSemanticSegmentation(library.SegformerConfig())
            return OneField(network, "logits")
        if kind == "wav2vec2":
            convolutions = {
                "conv_dim": (32,) * 3,
                "conv_stride": (5, 2, 2),
                "conv_kernel": (10, 3, 3),
            }
            config = library.Wav2Vec2Config(
                vocab_size=32,
                intermediate_size=96,
                num_conv_pos_embeddings=16,
                num_conv_pos_embedding_groups=4,
                **convolutions,
                **width,
            )
            return OneField(library.Wav2Vec2ForCTC(config), "logits")
        if kind == "llama":
            config = library.LlamaConfig(
                vocab_size=100,
                intermediate_size=96,
                num_key_value_heads=2,
                use_cache=False,
                **width,
            )
            return OneField(library.LlamaForCausalLM(config), "logits", use_cache=False)
        vision = library.CLIPVisionConfig(
            intermediate_size=96, image_size=32, patch_size=8, projection_dim=24, **width
        )
        text = library.CLIPTextConfig(
            vocab_size=100,
            intermediate_size=96,
            projection_dim=24,
            max_position_embeddings=16,
            eos_token_id=99,
            **width,
        )
        return Towers(
            library.CLIPTextModelWithProjection(text), library.CLIPVisionModelWithProjection(vision)
        )

    return build


class OneField(nn.Module):
    """One field of what a transformers model returns."""

    def __init__(self, model: nn.Module, name: str, **arguments: Any) -> None:
        super().__init__()
        self.model, self.name, self.arguments = model, name, arguments

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = getattr(self.model(x, **self.arguments), self.name)
        return result


class EncoderDecoder(nn.Module):
    """What a decoder says next, given what an encoder reads."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor, said: Tensor) -> Tensor:
        result: Tensor = self.model(x, decoder_input_ids=said, use_cache=False).logits
        return result


class Towers(nn.Module):
    """CLIP's text and image towers side by side."""

    def __init__(self, text: nn.Module, vision: nn.Module) -> None:
        super().__init__()
        self.text, self.vision = text, vision

    def forward(self, words: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
        return self.text(words).text_embeds, self.vision(image).image_embeds


def named(name: str) -> Architecture:
    """The architecture of the zoo with that name; raises `KeyError` where there is none."""
    return {architecture.name: architecture for architecture in ZOO}[name]


ZOO: tuple[Architecture, ...] = (
    Architecture("vgg11_bn", torchvision("vgg11_bn", num_classes=10), images(32), images(224)),
    Architecture("resnet18", torchvision("resnet18"), images(64), images(224)),
    Architecture("resnet50", torchvision("resnet50"), images(64), images(224)),
    Architecture("resnext50", torchvision("resnext50_32x4d"), images(64), images(224)),
    Architecture("wide_resnet50", torchvision("wide_resnet50_2"), images(64), images(224)),
    Architecture("densenet121", torchvision("densenet121"), images(64), images(224)),
    Architecture("mobilenet_v2", torchvision("mobilenet_v2"), images(64), images(224)),
    Architecture("mobilenet_v3", torchvision("mobilenet_v3_large"), images(64), images(224)),
    Architecture("efficientnet_b0", torchvision("efficientnet_b0"), images(64), images(224)),
    Architecture("ghostnet", timm("ghostnet_100"), images(64), images(224)),
    Architecture("regnet_x", torchvision("regnet_x_400mf"), images(64), images(224)),
    Architecture("regnet_y", torchvision("regnet_y_400mf"), images(64), images(224)),
    Architecture("shufflenet_v2", torchvision("shufflenet_v2_x1_0"), images(64), images(224)),
    Architecture("squeezenet", torchvision("squeezenet1_0"), images(64), images(224)),
    Architecture(
        "inception_v3",
        torchvision("inception_v3", aux_logits=False, init_weights=False),
        images(96),
        images(299),
    ),
    Architecture("convnext", torchvision("convnext_tiny"), images(64), images(224)),
    Architecture("poolformer", timm("poolformer_s12"), images(64), images(224)),
    Architecture("mlp_mixer", timm("mixer_s16_224"), images(224)),
    Architecture("vit_timm", timm("vit_tiny_patch16_224"), images(224)),
    Architecture("vit_transformers", transformer("vit"), images(32)),
    Architecture("deit", timm("deit_tiny_distilled_patch16_224"), images(224)),
    Architecture("swin", timm("swin_tiny_patch4_window7_224"), images(224)),
    Architecture("levit", timm("levit_128s"), images(224)),
    Architecture("coatnet", timm("coatnet_0_rw_224"), images(224)),
    Architecture("edgenext", timm("edgenext_xx_small"), images(64), images(256)),
    Architecture("gcvit", timm("gcvit_xxtiny"), images(224)),
    Architecture("xcit", timm("xcit_nano_12_p16_224"), images(64), images(224)),
    Architecture("dinov2", transformer("dinov2"), images(28)),
    Architecture("bert", transformer("bert"), tokens(12)),
    Architecture("gpt2", transformer("gpt2"), tokens(12)),
    Architecture("llama_gqa", transformer("llama"), tokens(12)),
    Architecture("gpt_neox", transformer("gpt_neox"), tokens(12), tokens(2048)),
    Architecture("t5", transformer("t5"), lambda batch: tokens(9)(batch) + tokens(7)(batch)),
    Architecture(
        "whisper",
        transformer("whisper"),
        lambda batch: features(16, 40)(batch) + tokens(7)(batch),
    ),
    Architecture("wav2vec2", transformer("wav2vec2"), features(2000)),
    Architecture("segformer", transformer("segformer"), images(64), images(512)),
    Architecture("torch_encoder", EncoderNet, tokens(12)),
    Architecture(
        "clip",
        transformer("clip"),
        lambda batch: (torch.randint(0, 100, (batch, 12)), torch.randn(batch, 3, 32, 32)),
    ),
    Architecture("unet", UNet, images(32)),
    Architecture(
        "deeplabv3",
        torchvision("segmentation.deeplabv3_resnet50", weights_backbone=None),
        images(64),
        images(520),
    ),
    Architecture(
        "fcn",
        torchvision("segmentation.fcn_resnet50", weights_backbone=None),
        images(64),
        images(520),
    ),
    Architecture("detector_fpn", Detector, images(64), images(800)),
    Architecture("super_resolution", SuperResolution, images(24)),
    Architecture("group_norm", GroupNormNet, images(24)),
    Architecture("cbam", CBAM, images(24)),
    Architecture("squeeze_excite", timm("seresnet18"), images(64), images(224)),
    Architecture("weight_norm", WeightNormNet, images(24)),
    Architecture("spectral_norm", SpectralNormNet, images(24)),
    Architecture("conv1d", Convolution1d, features(1, 128)),
    Architecture("conv3d", Convolution3d, features(1, 8, 16, 16)),
    Architecture("lstm", LSTMNet, tokens(10), recurrent=True),
    Architecture("gru", GRUNet, tokens(10), recurrent=True),
    Architecture(
        "two_in_two_out",
        TwoInTwoOut,
        lambda batch: (torch.randn(batch, 3, 16, 16), torch.randn(batch, 7)),
    ),
)
