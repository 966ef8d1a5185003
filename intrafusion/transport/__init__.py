"""Optimal transport of a group's n units to m targets: cost, targets, masses, plan."""

from intrafusion.registry import Registry

TARGETS = Registry(
    kind="target",
    group="intrafusion.targets",
    built_in={
        "most_important": "intrafusion.transport.targets:most_important",
        "kmeans": "intrafusion.transport.targets:kmeans",
        "gmm": "intrafusion.transport.targets:gmm",
    },
)
