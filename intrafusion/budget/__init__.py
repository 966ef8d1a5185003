"""Budgets: how many units each group keeps.

One file per allocation, one line here. An allocation is a function of a `Context` that gives, for
every group it can judge, the errors (n + 1,) that are expected with 0, 1, … n units left.
"""

from intrafusion.registry import Registry

ALLOCATIONS = Registry(
    kind="allocation",
    group="intrafusion.allocations",
    built_in={
        "reconstruction": "intrafusion.budget.reconstruction:reconstruction",
        "measured": "intrafusion.budget.measured:measured",
        "global": "intrafusion.budget.importance:by_importance",
    },
)

EXPECTING = ("reconstruction", "measured")
"""Those whose errors are changes of the outputs, squared and relative to their variance."""
