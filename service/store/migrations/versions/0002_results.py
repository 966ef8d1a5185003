"""What a job came to, gates and retries; jobs outlive the uploads they read"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_UPLOADS = {"model_id": "models", "calibration_id": "datasets", "evaluation_id": "datasets"}


def upgrade() -> None:
    with op.batch_alter_table("jobs") as jobs:
        for column, table in _UPLOADS.items():
            jobs.drop_constraint(f"jobs_{column}_to_{table}", type_="foreignkey")
        jobs.add_column(sa.Column("method", sa.String(length=64), nullable=True))
        jobs.add_column(sa.Column("result", sa.JSON(none_as_null=True), nullable=True))
        jobs.add_column(sa.Column("gates", sa.JSON(none_as_null=True), nullable=True))
        jobs.add_column(sa.Column("retry_of", sa.String(length=64), nullable=True))
    op.create_table(
        "labels",
        sa.Column("job_id", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("value", sa.String(length=500), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("labels_job_id_to_jobs")),
        sa.PrimaryKeyConstraint("job_id", "name", name=op.f("labels_key")),
    )
    op.create_index("labels_by_name", "labels", ["name", "value", "job_id"])
    _describe_old_jobs()
    with op.batch_alter_table("jobs") as jobs:
        jobs.alter_column("method", existing_type=sa.String(length=64), nullable=False)
    op.create_index("jobs_by_end", "jobs", ["ended_at"])
    for column in _UPLOADS:
        op.create_index(op.f(f"jobs_by_{column}"), "jobs", [column])


def _describe_old_jobs() -> None:
    jobs = sa.table("jobs", sa.column("id"), sa.column("method"), sa.column("request", sa.JSON()))
    labels = sa.table("labels", sa.column("job_id"), sa.column("name"), sa.column("value"))
    connection = op.get_bind()
    for id, request in connection.execute(sa.select(jobs.c.id, jobs.c.request)).all():
        method = request["spec"]["method"]
        connection.execute(sa.update(jobs).where(jobs.c.id == id).values(method=method))
        for name, value in request["metadata"].items():
            connection.execute(
                sa.insert(labels).values(job_id=id, name=name[:100], value=value[:500])
            )
