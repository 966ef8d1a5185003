"""What a worker found in a model, the first time that it loaded it"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.add_column("models", sa.Column("inspection", sa.JSON(none_as_null=True), nullable=True))
