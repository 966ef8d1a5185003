"""Importance: one score per unit of a group. One file per criterion, one line here."""

from intrafusion.registry import Registry

IMPORTANCE = Registry(
    kind="importance",
    group="intrafusion.importance",
    built_in={
        "l1": "intrafusion.importance.norm:l1",
        "l2": "intrafusion.importance.norm:l2",
        "linf": "intrafusion.importance.norm:linf",
        "fpgm": "intrafusion.importance.fpgm:fpgm",
        "lamp": "intrafusion.importance.lamp:lamp",
        "bn_scale": "intrafusion.importance.bn_scale:bn_scale",
        "activation": "intrafusion.importance.activation:activation",
        "chip": "intrafusion.importance.chip:chip",
        "taylor": "intrafusion.importance.taylor:taylor",
        "reconstruction": "intrafusion.importance.reconstruction:reconstruction",
        "random": "intrafusion.importance.random:random",
    },
)
