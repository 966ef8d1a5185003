"""Fills in the templates of the page and of reports."""

from __future__ import annotations

from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

import intrafusion
from service.web import words

_templates = Environment(
    loader=PackageLoader("service.web"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_templates.globals.update(words=words, version=intrafusion.__version__)


def fill(template: str, /, **values: Any) -> str:
    """A template as HTML; what is filled in is text, and never markup of its own."""
    return _templates.get_template(template).render(**values)
