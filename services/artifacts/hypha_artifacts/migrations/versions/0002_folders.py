"""
Folders of files, by which one level of an artifact is listed without reading the others; and objects being written.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_TABLES = {"artifact_files": "artifact_id, seq", "artifact_staged_files": "artifact_id"}


def upgrade() -> None:
    for table, owner in _TABLES.items():
        # `a/b/` of `a/b/c`, empty for what is in no folder.
        op.execute(
            f"""ALTER TABLE {table} ADD COLUMN folder text COLLATE "C" NOT NULL """
            "GENERATED ALWAYS AS (regexp_replace(path, '[^/]*$', '')) STORED"
        )
        # With the object: pages behind others are then found in the index alone.
        op.execute(f"CREATE INDEX {table}_folder ON {table} ({owner}, folder, path) INCLUDE (blob_id)")
    # A PUT at our own /s3 that has begun and not been heard of since: it may end after a commit.
    op.add_column("blobs", sa.Column("writing", sa.Boolean, nullable=False, server_default=sa.false()))


def downgrade() -> None:
    op.drop_column("blobs", "writing")
    for table in _TABLES:
        op.drop_column(table, "folder")
