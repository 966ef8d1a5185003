"""API keys, and a tenant for everything a request can reach"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

_DEFAULT = "default"


def _tenant() -> sa.Column[str]:
    return sa.Column("tenant", sa.String(length=64), nullable=False, server_default=_DEFAULT)


def upgrade() -> None:
    op.create_table(
        "api_keys",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("api_keys_key")),
        sa.UniqueConstraint("sha256", name=op.f("api_keys_unique_sha256")),
    )
    for table in ("models", "datasets"):
        with op.batch_alter_table(table) as uploads:
            uploads.add_column(_tenant())
            uploads.drop_constraint(f"{table}_unique_sha256", type_="unique")
            uploads.create_unique_constraint(f"{table}_unique_tenant", ["tenant", "sha256"])
        op.create_index(f"{table}_by_tenant", table, ["tenant", "id"])
        op.create_index(op.f(f"{table}_by_sha256"), table, ["sha256"])
    with op.batch_alter_table("jobs") as jobs:
        jobs.add_column(_tenant())
    op.create_index("jobs_by_tenant", "jobs", ["tenant", "id"])
    with op.batch_alter_table("idempotency_keys") as keys:
        keys.add_column(_tenant())
        keys.drop_constraint("idempotency_keys_key", type_="primary")
        keys.create_primary_key("idempotency_keys_key", ["tenant", "key"])
    op.create_index(op.f("artifacts_by_sha256"), "artifacts", ["sha256"])
    for table in ("models", "datasets", "jobs", "idempotency_keys"):
        with op.batch_alter_table(table) as owned:
            owned.alter_column(
                "tenant", existing_type=sa.String(length=64), server_default=None
            )
