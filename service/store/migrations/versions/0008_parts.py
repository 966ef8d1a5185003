"""Parts of uploads in an object store, and who makes a whole of them"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    op.create_table(
        "parts",
        sa.Column("upload_id", sa.String(length=64), nullable=False),
        sa.Column("begins", sa.BigInteger(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.ForeignKeyConstraint(
            ["upload_id"], ["partial_uploads.id"], name=op.f("parts_upload_id_to_partial_uploads")
        ),
        sa.PrimaryKeyConstraint("upload_id", "begins", name=op.f("parts_key")),
    )
    op.add_column(
        "partial_uploads",
        sa.Column("finishing_until", sa.DateTime(timezone=True), nullable=True),
    )
