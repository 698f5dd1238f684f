"""The platform of the project in experiments that are not for the web, which need no page to start."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

_EXPERIMENTS = sa.table(
    "experiments",
    *(sa.column(name, sa.BigInteger) for name in ("id", "project_id")),
    sa.column("document", sa.JSON),
)
_DATAFILES = sa.table("datafiles", sa.column("project_id", sa.BigInteger), sa.column("platform", sa.String))


def upgrade() -> None:
    """Write the platform of each project whose environments are known."""
    connection = op.get_bind()
    known = sa.select(_DATAFILES.c.project_id, _DATAFILES.c.platform).distinct()
    for project in connection.execute(known.where(_DATAFILES.c.platform != "web")).all():
        of_project = sa.select(_EXPERIMENTS).where(_EXPERIMENTS.c.project_id == project.project_id)
        for row in connection.execute(of_project).all():
            this_one = sa.update(_EXPERIMENTS).where(_EXPERIMENTS.c.id == row.id)
            connection.execute(this_one.values(document={**row.document, "platform": project.platform}))


def downgrade() -> None:
    """Leave it there: earlier releases do not read it."""
