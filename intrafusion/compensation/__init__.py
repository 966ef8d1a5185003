"""Correcting what reads fused channels, so that the network computes what it computed before."""

from intrafusion.compensation.lockstep import Refit, refit
from intrafusion.compensation.variance import restored_spread

__all__ = ["Refit", "refit", "restored_spread"]
