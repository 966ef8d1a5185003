"""Importance: one score per unit of a group. One file per criterion, one line here."""

from intrafusion.registry import Registry

IMPORTANCE = Registry(
    kind="importance",
    group="intrafusion.importance",
    built_in={
        "l1": "intrafusion.importance.norm:l1",
    },
)
