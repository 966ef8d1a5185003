"""File ⇄ program."""

from intrafusion.program.load import load
from intrafusion.program.program import Program

__all__ = ["Program", "load"]
