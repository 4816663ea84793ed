"""
Where partitions are that were moved, in the home database; and which of them are closed in this one.

A process that has not heard of a move reads the fences with every new connection, and keeps out.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.execute("CREATE SEQUENCE partition_epoch")
    op.create_table(
        "partition_places",
        sa.Column("partition", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("database", sa.Text, nullable=False),  # name of the one that owns it
        sa.Column("phase", sa.Text, nullable=False),
        sa.Column("other", sa.Text),  # name of the one that it goes to, or that still has its rows
        sa.Column("epoch", sa.BigInteger, nullable=False),  # of two words the later counts
        sa.CheckConstraint("phase IN ('here', 'moving', 'cleaning')", name="partition_places_phase"),
        sa.CheckConstraint("(phase = 'here') = (other IS NULL)", name="partition_places_other"),
    )
    op.create_table(
        "partition_fences",
        sa.Column("partition", sa.Integer, primary_key=True, autoincrement=False),
        # Nobody works on it here whose word of it is older than this.
        sa.Column("epoch", sa.BigInteger, nullable=False),
    )


def downgrade() -> None:
    op.drop_table("partition_fences")
    op.drop_table("partition_places")
    op.execute("DROP SEQUENCE partition_epoch")
