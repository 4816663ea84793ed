"""
Task queues of workspaces.

``queues`` counts what is in each; its row is locked by whoever adds, so that tasks are numbered in the order in which
they became visible.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql as pg

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_table(
        "queues",
        sa.Column("workspace", sa.Text, sa.ForeignKey("workspaces.id", ondelete="CASCADE"), nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("length", sa.Integer, nullable=False),
        sa.Column("bytes", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("workspace", "name"),
    )
    op.create_index("queues_empty", "queues", ["workspace"], postgresql_where=sa.text("length = 0"))
    op.create_table(
        "queue_tasks",
        sa.Column("id", sa.BigInteger, sa.Identity(), primary_key=True),
        sa.Column("workspace", sa.Text, nullable=False),
        sa.Column("queue", sa.Text, nullable=False),
        sa.Column("task", sa.LargeBinary, nullable=False),  # msgpack
        sa.Column("created_at", pg.TIMESTAMP(timezone=True), nullable=False, server_default=sa.func.now()),
        sa.ForeignKeyConstraint(["workspace", "queue"], ["queues.workspace", "queues.name"], ondelete="CASCADE"),
    )
    op.create_index("queue_tasks_order", "queue_tasks", ["workspace", "queue", "id"])


def downgrade() -> None:
    op.drop_table("queue_tasks")
    op.drop_table("queues")
