"""
Tasks are numbered within their queue: when a partition is moved they keep their numbers in the other database.

A task that was taken there can then be put back here, in its place and in nobody else's.
"""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.drop_constraint("queue_tasks_pkey", "queue_tasks")
    op.create_primary_key("queue_tasks_pkey", "queue_tasks", ["workspace", "queue", "id"])
    op.drop_index("queue_tasks_order", "queue_tasks")  # the key is in the same order


def downgrade() -> None:
    op.create_index("queue_tasks_order", "queue_tasks", ["workspace", "queue", "id"])
    op.drop_constraint("queue_tasks_pkey", "queue_tasks")
    op.create_primary_key("queue_tasks_pkey", "queue_tasks", ["id"])
