"""The command line. Light: torch is imported only by `inspect`, `compress` and `serve`."""

from intrafusion.cli.app import main

__all__ = ["main"]
