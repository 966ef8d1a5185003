"""What the network of a job is called, also when it is deleted"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    op.add_column("jobs", sa.Column("model_name", sa.String(length=255), nullable=True))
    op.execute(
        "UPDATE jobs SET model_name = (SELECT name FROM models WHERE models.id = jobs.model_id)"
    )
