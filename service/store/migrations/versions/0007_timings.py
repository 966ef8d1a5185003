"""How long things took, and the trace that a job belongs to"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.create_table(
        "timings",
        sa.Column("timed", sa.String(length=16), nullable=False),
        sa.Column("label", sa.String(length=64), nullable=False),
        sa.Column("bound", sa.String(length=16), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.Column("seconds", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("timed", "label", "bound", name=op.f("timings_key")),
    )
    op.add_column("jobs", sa.Column("traceparent", sa.String(length=64), nullable=True))
