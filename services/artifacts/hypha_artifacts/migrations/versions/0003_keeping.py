"""
What the sweep has still to remove from the store, and since when a workspace is missed.

A row of ``dead_objects`` outlives the row of its object: once that is gone nothing can refer to the object any more,
and whoever sweeps next finishes what a killed process began.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql as pg

revision = "0003"
down_revision = "0002"

_NOW = sa.func.now()


def upgrade() -> None:
    op.create_table(
        "dead_objects",
        sa.Column("key", sa.Text, primary_key=True),  # in the bucket
        # Of a multipart upload, whose parts are to go; empty: the object itself.
        sa.Column("store_upload_id", sa.Text, primary_key=True, server_default=""),
        # Those that could not be removed go to the end of the queue.
        sa.Column("queued_at", pg.TIMESTAMP(timezone=True), nullable=False, server_default=_NOW),
    )
    op.create_index("dead_objects_queue", "dead_objects", ["queued_at"])
    op.create_index("artifact_uploads_expiry", "artifact_uploads", ["expires_at"])
    op.create_table(
        "missed_workspaces",
        sa.Column("workspace", sa.Text, primary_key=True),
        sa.Column("since", pg.TIMESTAMP(timezone=True), nullable=False, server_default=_NOW),
    )
    # However an upload ends, with its artifact too, the store is told to drop what parts it may still have.
    op.execute("""
        CREATE FUNCTION bury_uploads() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            INSERT INTO dead_objects (key, store_upload_id)
            SELECT b.key, gone.store_upload_id FROM gone JOIN blobs b ON b.id = gone.blob_id
            ON CONFLICT DO NOTHING;
            RETURN NULL;
        END $$
    """)
    op.execute(
        "CREATE TRIGGER artifact_uploads_bury AFTER DELETE ON artifact_uploads REFERENCING OLD TABLE AS gone "
        "FOR EACH STATEMENT EXECUTE FUNCTION bury_uploads()"
    )


def downgrade() -> None:
    op.execute("DROP TRIGGER artifact_uploads_bury ON artifact_uploads")
    op.execute("DROP FUNCTION bury_uploads")
    op.drop_index("artifact_uploads_expiry", "artifact_uploads")
    op.drop_table("missed_workspaces")
    op.drop_table("dead_objects")
