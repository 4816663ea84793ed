"""
Artifacts, their versions and files, and the objects that hold the bytes.

An object (table ``blobs``) is written once, under a key that is never used again. ``artifact_files`` says which path of
which version is which object, ``artifact_staged_files`` which path of the draft. Whenever a reference goes away, or an
object is announced, triggers put it into ``loose_blobs``: what the sweep looks at, and nothing else.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql as pg

revision = "0001"
down_revision = None

_NOW = sa.func.now()


def upgrade() -> None:
    _artifacts()
    _versions()
    _blobs()
    _files()
    _loosening()
    op.create_table(
        "artifact_leases",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("holder", sa.Text, nullable=False),
        sa.Column("epoch", sa.BigInteger, nullable=False),
        sa.Column("expires_at", pg.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("progress", sa.Text, nullable=False, server_default=""),
    )


def _artifacts() -> None:
    op.create_table(
        "artifacts",
        sa.Column("id", pg.UUID, primary_key=True),
        sa.Column("workspace", sa.Text, nullable=False),
        sa.Column("alias", sa.Text, nullable=False),
        sa.Column("parent_id", pg.UUID, sa.ForeignKey("artifacts.id", ondelete="SET NULL")),
        sa.Column("type", sa.Text),
        sa.Column("manifest", pg.JSONB, nullable=False),
        sa.Column("config", pg.JSONB, nullable=False),
        sa.Column("secrets", sa.LargeBinary),  # sealed
        # The draft: null where there is none.
        sa.Column("intent", sa.Text),
        sa.Column("staged_manifest", pg.JSONB),
        sa.Column("staged_config", pg.JSONB),
        sa.Column("staged_secrets", sa.LargeBinary),
        sa.Column("staged_type", sa.Text),
        sa.Column("next_seq", sa.Integer, nullable=False, server_default="0"),
        sa.Column("version_count", sa.Integer, nullable=False, server_default="0"),
        sa.Column("file_count", sa.Integer, nullable=False, server_default="0"),
        sa.Column("download_count", sa.Double, nullable=False, server_default="0"),
        sa.Column("view_count", sa.Double, nullable=False, server_default="0"),
        sa.Column("created_at", sa.BigInteger, nullable=False),  # Unix time, seconds
        sa.Column("last_modified", sa.BigInteger, nullable=False),
        sa.Column("created_by", sa.Text, nullable=False),
        sa.UniqueConstraint("workspace", "alias", name="_workspace_alias_uc"),
        sa.CheckConstraint("intent IN ('new_version', 'edit_version')", name="artifacts_intent"),
    )
    op.create_index("artifacts_children", "artifacts", ["parent_id", "id"])
    op.create_index("artifacts_of_workspace", "artifacts", ["workspace", "id"])


def _versions() -> None:
    op.create_table(
        "artifact_versions",
        sa.Column("artifact_id", pg.UUID, sa.ForeignKey("artifacts.id", ondelete="CASCADE"), nullable=False),
        sa.Column("seq", sa.Integer, nullable=False),  # fixed for ever; their order is the order of versions
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("comment", sa.Text),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        # As published with this version; those of the newest are the artifact's own.
        sa.Column("type", sa.Text),
        sa.Column("manifest", pg.JSONB, nullable=False),
        sa.Column("config", pg.JSONB, nullable=False),
        sa.PrimaryKeyConstraint("artifact_id", "seq"),
        sa.UniqueConstraint("artifact_id", "name", name="artifact_versions_name"),
    )


def _blobs() -> None:
    op.create_table(
        "blobs",
        sa.Column("id", pg.UUID, primary_key=True),
        sa.Column("key", sa.Text, nullable=False, unique=True),  # in the bucket
        sa.Column("workspace", sa.Text, nullable=False),
        sa.Column("size", sa.BigInteger),  # null until the bytes are known to be there
        sa.Column("etag", sa.Text),  # without quotes
        sa.Column("content_type", sa.Text),
        sa.Column("modified_at", sa.Double),  # Unix time, seconds
        # Committed: nobody writes it any more.
        sa.Column("sealed", sa.Boolean, nullable=False, server_default=sa.false()),
        # Until then somebody may hold an address to write it, at the store itself where ``direct``.
        sa.Column("writable_until", pg.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("direct", sa.Boolean, nullable=False, server_default=sa.false()),
    )
    op.create_table(
        "loose_blobs",
        sa.Column("blob_id", pg.UUID, sa.ForeignKey("blobs.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("since", pg.TIMESTAMP(timezone=True), nullable=False, server_default=_NOW),
    )
    op.create_index("loose_blobs_since", "loose_blobs", ["since"])
    op.create_table(
        "artifact_uploads",  # multipart
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("artifact_id", pg.UUID, sa.ForeignKey("artifacts.id", ondelete="CASCADE"), nullable=False),
        sa.Column("path", sa.Text, nullable=False),
        sa.Column("blob_id", pg.UUID, sa.ForeignKey("blobs.id", ondelete="CASCADE"), nullable=False),
        sa.Column("store_upload_id", sa.Text, nullable=False),
        sa.Column("part_count", sa.Integer, nullable=False),
        sa.Column("download_weight", sa.Double, nullable=False, server_default="0"),
        sa.Column("expires_at", pg.TIMESTAMP(timezone=True), nullable=False),
    )
    op.create_index("artifact_uploads_blob", "artifact_uploads", ["blob_id"])
    op.create_index("artifact_uploads_of", "artifact_uploads", ["artifact_id"])


def _files() -> None:
    op.create_table(
        "artifact_files",
        sa.Column("artifact_id", pg.UUID, nullable=False),
        sa.Column("seq", sa.Integer, nullable=False),
        sa.Column("path", sa.Text(collation="C"), nullable=False),  # C: the order of bytes, as S3 lists
        sa.Column("blob_id", pg.UUID, sa.ForeignKey("blobs.id"), nullable=False),
        sa.PrimaryKeyConstraint("artifact_id", "seq", "path"),
        sa.ForeignKeyConstraint(
            ["artifact_id", "seq"], ["artifact_versions.artifact_id", "artifact_versions.seq"], ondelete="CASCADE"
        ),
    )
    op.create_index("artifact_files_blob", "artifact_files", ["blob_id"])
    op.create_table(
        "artifact_staged_files",
        sa.Column("artifact_id", pg.UUID, sa.ForeignKey("artifacts.id", ondelete="CASCADE"), nullable=False),
        sa.Column("path", sa.Text(collation="C"), nullable=False),
        sa.Column("blob_id", pg.UUID, sa.ForeignKey("blobs.id")),  # null: removed
        sa.Column("download_weight", sa.Double, nullable=False, server_default="0"),
        sa.PrimaryKeyConstraint("artifact_id", "path"),
    )
    op.create_index("artifact_staged_files_blob", "artifact_staged_files", ["blob_id"])


def _loosening() -> None:
    """Statement triggers: one insert however many rows a statement or a cascade touches."""
    op.execute("""
        CREATE FUNCTION loosen_unreferenced() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            INSERT INTO loose_blobs (blob_id) SELECT DISTINCT blob_id FROM gone WHERE blob_id IS NOT NULL
            ON CONFLICT (blob_id) DO UPDATE SET since = now();
            RETURN NULL;
        END $$
    """)
    op.execute("""
        CREATE FUNCTION loosen_announced() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            INSERT INTO loose_blobs (blob_id, since) SELECT id, writable_until FROM made
            ON CONFLICT (blob_id) DO NOTHING;
            RETURN NULL;
        END $$
    """)
    for table in ("artifact_files", "artifact_staged_files", "artifact_uploads"):
        for event in ("DELETE", "UPDATE"):
            op.execute(
                f"CREATE TRIGGER {table}_{event.lower()} AFTER {event} ON {table} REFERENCING OLD TABLE AS gone "
                "FOR EACH STATEMENT EXECUTE FUNCTION loosen_unreferenced()"
            )
    op.execute(
        "CREATE TRIGGER blobs_insert AFTER INSERT ON blobs REFERENCING NEW TABLE AS made "
        "FOR EACH STATEMENT EXECUTE FUNCTION loosen_announced()"
    )


def downgrade() -> None:
    for table in (
        "artifact_staged_files", "artifact_files", "artifact_uploads", "loose_blobs", "blobs", "artifact_versions",
        "artifacts", "artifact_leases",
    ):  # fmt: skip
        op.drop_table(table)
    op.execute("DROP FUNCTION loosen_unreferenced")
    op.execute("DROP FUNCTION loosen_announced")
