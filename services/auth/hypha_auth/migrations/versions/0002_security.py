"""Blocked users and addresses, who signs and judges tokens, and the record of security events."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql as pg

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_table(
        "blocks",
        sa.Column("kind", sa.Text, primary_key=True),  # user, ip
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("reason", sa.Text, nullable=False),
        _time("until"),
        sa.Column("blocked_by", sa.Text, nullable=False),
        _time("created_at", now=True),
    )
    op.create_index("blocks_until", "blocks", ["until"])
    op.create_table(
        "signing_keys",
        sa.Column("key_id", sa.Text, primary_key=True),
        sa.Column("algorithm", sa.Text, nullable=False),
        sa.Column("private_key", sa.LargeBinary),  # encrypted; null once the key signs no more
        sa.Column("public_key", sa.Text, nullable=False),  # JWK, JSON
        _time("created_at", now=True),
        _time("retired_at", nullable=True),
        _time("last_expiry", now=True),  # no token that it signed lives longer
    )
    # At most one key signs: replicas that make one at the same time agree on the first.
    op.execute(
        "CREATE UNIQUE INDEX signing_keys_current ON signing_keys ((retired_at IS NULL)) WHERE retired_at IS NULL"
    )
    op.create_table(
        "audit_events",
        sa.Column("number", sa.BigInteger, sa.Identity(always=True), primary_key=True),
        sa.Column("key", sa.Text, nullable=False, unique=True),  # given by the sender: what is sent twice is kept once
        _time("at"),
        sa.Column("event", sa.Text, nullable=False),
        sa.Column("user_id", sa.Text, nullable=False),
        sa.Column("workspace", sa.Text, nullable=False),
        sa.Column("address", sa.Text, nullable=False),
        sa.Column("details", pg.JSONB, nullable=False),
        sa.Column("count", sa.Integer, nullable=False),
    )
    op.create_table(
        "custom_auth",  # which startup functions judge tokens; at most one row
        sa.Column("single", sa.Boolean, sa.CheckConstraint("single"), primary_key=True, server_default=sa.true()),
        sa.Column("client_id", sa.Text, nullable=False),
        sa.Column("parts", pg.ARRAY(sa.Text), nullable=False),
        _time("registered_at", now=True),
    )
    op.create_index("audit_events_at", "audit_events", ["at"])
    op.create_index("audit_events_user", "audit_events", ["user_id", "number"])
    op.create_index("audit_events_event", "audit_events", ["event", "number"])
    op.create_index("audit_events_workspace", "audit_events", ["workspace", "number"])


def downgrade() -> None:
    for table in ("custom_auth", "audit_events", "signing_keys", "blocks"):
        op.drop_table(table)


def _time(name: str, *, nullable: bool = False, now: bool = False) -> sa.Column[object]:
    default = sa.func.now() if now else None
    return sa.Column(name, pg.TIMESTAMP(timezone=True), nullable=nullable, server_default=default)
