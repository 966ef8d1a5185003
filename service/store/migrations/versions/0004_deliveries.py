"""Webhooks that have to be delivered, and uploads that arrive in parts"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.create_table(
        "deliveries",
        sa.Column("job_id", sa.String(length=64), nullable=False),
        sa.Column("url", sa.String(length=2000), nullable=False),
        sa.Column("secret", sa.String(length=255), nullable=True),
        sa.Column("attempts", sa.BigInteger(), nullable=False),
        sa.Column("next_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("deliveries_job_id_to_jobs")),
        sa.PrimaryKeyConstraint("job_id", name=op.f("deliveries_key")),
    )
    op.create_index(op.f("deliveries_by_next_at"), "deliveries", ["next_at"])
    op.create_table(
        "partial_uploads",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=True),
        sa.Column("length", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("upload_id", sa.String(length=64), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("partial_uploads_key")),
    )
    op.create_index(op.f("partial_uploads_by_created_at"), "partial_uploads", ["created_at"])
