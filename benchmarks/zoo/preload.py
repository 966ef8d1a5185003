"""What every row's process needs, imported once before they are forked."""

import logging
import warnings

from benchmarks.architectures import import_torchvision
from benchmarks.zoo import peer, row
from intrafusion import channels, program

__all__ = ["channels", "peer", "program", "row"]

# Torch's export logs about every operator of torchvision; a table is all that is wanted.
logging.disable(logging.WARNING)
warnings.filterwarnings("ignore")
import_torchvision()
for _library in ("timm", "transformers"):
    __import__(_library)
