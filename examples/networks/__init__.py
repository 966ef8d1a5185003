"""The small networks that the examples and the benchmarks compress.

Each reads samples as its data set has them (`examples.data`) and returns class scores.
None normalises its input. A network is named after its data set, an underscore, and its kind.
"""

from __future__ import annotations

from torch import nn

from examples.networks.densenet import FashionDenseNet
from examples.networks.gru import FashionGRU
from examples.networks.mlp import MnistMLP
from examples.networks.mobilenet import FashionMobileNet
from examples.networks.resnet import FashionResNet
from examples.networks.tones import TonesConvNet
from examples.networks.transformer import TextTransformer
from examples.networks.vgg import FashionVGG
from examples.networks.vit import MnistViT

NETWORKS: dict[str, type[nn.Module]] = {
    "fashion_vgg": FashionVGG,
    "fashion_resnet": FashionResNet,
    "fashion_mobilenet": FashionMobileNet,
    "fashion_densenet": FashionDenseNet,
    "fashion_gru": FashionGRU,
    "mnist_vit": MnistViT,
    "mnist_mlp": MnistMLP,
    "tones_conv": TonesConvNet,
    "text_transformer": TextTransformer,
}
