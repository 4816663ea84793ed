"""Who users are at an OpenID Connect issuer, and who was sent there to log in."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql as pg

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.create_table(
        "identities",
        sa.Column("issuer", sa.Text, primary_key=True),
        sa.Column("subject", sa.Text, primary_key=True),
        sa.Column("user_id", sa.Text, nullable=False, unique=True),
        sa.Column("created_at", pg.TIMESTAMP(timezone=True), nullable=False, server_default=sa.func.now()),
    )
    op.create_table(
        "oidc_states",
        sa.Column("state", sa.Text, primary_key=True),
        sa.Column("binding", sa.LargeBinary, nullable=False),
        sa.Column("nonce", sa.Text, nullable=False),
        sa.Column("verifier", sa.Text, nullable=False),
        sa.Column("fields", sa.LargeBinary, nullable=False),  # msgpack
        sa.Column("expires_at", pg.TIMESTAMP(timezone=True), nullable=False),
        # Ten minutes of life; its secrets should not live on in write-ahead logs and their archives.
        prefixes=["UNLOGGED"],
    )
    op.create_index("oidc_states_expiry", "oidc_states", ["expires_at"])


def downgrade() -> None:
    op.drop_table("oidc_states")
    op.drop_table("identities")
