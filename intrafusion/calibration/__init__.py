"""Samples on which consumers are refitted and programs are measured."""

from intrafusion.calibration.datasets import Dataset

__all__ = ["Dataset"]
