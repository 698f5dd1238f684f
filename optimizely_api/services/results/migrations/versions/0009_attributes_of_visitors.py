"""An index for the attributes of one visitor, which subject access requests ask for."""

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the index."""
    op.create_index("visitor_attribute_of_visitor", "visitor_attribute", ["visitor_id"])


def downgrade() -> None:
    """Drop it."""
    op.drop_index("visitor_attribute_of_visitor", "visitor_attribute")
