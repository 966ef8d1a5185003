"""Which channels belong together: label planes over the ATen graph, and their removal."""

from intrafusion.channels.analysis import Analysis, Binding, Frozen, Group, Role, analyse
from intrafusion.channels.surgery import Removal, remove

__all__ = ["Analysis", "Binding", "Frozen", "Group", "Removal", "Role", "analyse", "remove"]
