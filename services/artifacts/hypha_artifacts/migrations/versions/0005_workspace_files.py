"""
Files of workspaces: credentials for them, what the store does not remember of them, and when some of them end.

All of these rows are in the database of their workspace.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql as pg

revision = "0005"
down_revision = "0004"

_NOW = sa.func.now()


def upgrade() -> None:
    op.create_table(
        "s3_credentials",  # their secrets are computed, not kept
        sa.Column("access_key_id", sa.Text, primary_key=True),
        sa.Column("workspace", sa.Text, nullable=False),
        sa.Column("user_id", sa.Text, nullable=False),
        sa.Column("read_only", sa.Boolean, nullable=False),
        sa.Column("created_at", pg.TIMESTAMP(timezone=True), nullable=False, server_default=_NOW),
        sa.Column("expires_at", pg.TIMESTAMP(timezone=True)),  # null: with the workspace
    )
    op.create_index("s3_credentials_of", "s3_credentials", ["workspace", "user_id", "created_at"])
    op.create_table(
        "workspace_objects",  # only those of which something is to be told that their name does not say
        sa.Column("key", sa.Text(collation="C"), primary_key=True),
        sa.Column("store_etag", sa.Text, nullable=False),  # the row is about the object with this one, at the store
        sa.Column("etag", sa.Text, nullable=False),  # as clients were told
        sa.Column("content_type", sa.Text, nullable=False),
        sa.Column("metadata", pg.JSONB, nullable=False),
    )
    op.create_table(
        "expiring_files",
        sa.Column("key", sa.Text(collation="C"), primary_key=True),
        sa.Column("deadline", pg.TIMESTAMP(timezone=True), nullable=False),
    )
    op.create_index("expiring_files_deadline", "expiring_files", ["deadline"])
    op.create_table(
        "workspace_uploads",  # multipart
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("workspace", sa.Text, nullable=False),
        sa.Column("key", sa.Text(collation="C"), nullable=False),
        sa.Column("store_upload_id", sa.Text, nullable=False),
        sa.Column("content_type", sa.Text, nullable=False),
        sa.Column("metadata", pg.JSONB, nullable=False),
        sa.Column("ttl", sa.Double),  # s, of the file that comes out
        sa.Column("created_at", pg.TIMESTAMP(timezone=True), nullable=False, server_default=_NOW),
        sa.Column("expires_at", pg.TIMESTAMP(timezone=True), nullable=False),
    )
    op.create_index("workspace_uploads_expires_at", "workspace_uploads", ["expires_at"])
    op.create_index("workspace_uploads_of", "workspace_uploads", ["workspace", "key", "id"])
    op.create_table(
        "ended_workspaces",  # whose files are still to be removed
        sa.Column("workspace", sa.Text, primary_key=True),
        sa.Column("ended_at", pg.TIMESTAMP(timezone=True), nullable=False, server_default=_NOW),
        sa.Column("next_try_at", pg.TIMESTAMP(timezone=True), nullable=False, server_default=_NOW),
    )
    op.create_index("ended_workspaces_next_try_at", "ended_workspaces", ["next_try_at"])


def downgrade() -> None:
    for table in ("ended_workspaces", "workspace_uploads", "expiring_files", "workspace_objects", "s3_credentials"):
        op.drop_table(table)
