"""Revoked tokens and logins under way."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql as pg

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "revoked_tokens",
        sa.Column("token_id", sa.Text, primary_key=True),
        sa.Column("expires_at", pg.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("revoked_by", sa.Text, nullable=False),
        sa.Column("revoked_at", pg.TIMESTAMP(timezone=True), nullable=False, server_default=sa.func.now()),
    )
    op.create_index("revoked_tokens_expiry", "revoked_tokens", ["expires_at"])
    op.create_table(
        "login_sessions",
        sa.Column("key", sa.Text, primary_key=True),
        sa.Column("workspace", sa.Text),
        sa.Column("expires_in", sa.BigInteger),
        sa.Column("token", sa.Text),  # null until somebody has logged in
        sa.Column("profile", sa.LargeBinary),  # msgpack
        sa.Column("expires_at", pg.TIMESTAMP(timezone=True), nullable=False),
        # A login lives three minutes; its token should not live on in write-ahead logs and their archives.
        prefixes=["UNLOGGED"],
    )
    op.create_index("login_sessions_expiry", "login_sessions", ["expires_at"])


def downgrade() -> None:
    op.drop_table("login_sessions")
    op.drop_table("revoked_tokens")
