"""Accounts of people on this server, and what slows down those who guess."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql as pg

revision = "0003"
down_revision = "0002"

_NOW = sa.func.now()


def upgrade() -> None:
    op.create_table(
        "accounts",
        sa.Column("user_id", sa.Text, primary_key=True),
        sa.Column("email", sa.Text, nullable=False, unique=True),  # as accounts.emails.normal_email writes it
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("password_hash", sa.Text, nullable=False),
        sa.Column("roles", pg.ARRAY(sa.Text), nullable=False),
        sa.Column("origin", sa.Text, nullable=False),  # borne by the tokens of its logins; revoking it ends them
        sa.Column("email_verified", sa.Boolean, nullable=False, server_default=sa.false()),
        # By a code that was mailed, not one that was shown for want of a mail server.
        sa.Column("email_proven", sa.Boolean, nullable=False, server_default=sa.false()),
        # The mail that was sent last: for verifying the address, or for a new password.
        sa.Column("code_hash", sa.LargeBinary),
        sa.Column("code_attempts", sa.Integer, nullable=False, server_default="0"),
        sa.Column("code_expires_at", pg.TIMESTAMP(timezone=True)),
        sa.Column("created_at", pg.TIMESTAMP(timezone=True), nullable=False, server_default=_NOW),
        sa.Column("password_changed_at", pg.TIMESTAMP(timezone=True), nullable=False, server_default=_NOW),
    )
    op.create_index("accounts_pending", "accounts", ["created_at"], postgresql_where=sa.text("NOT email_verified"))
    op.create_table(
        "throttles",
        sa.Column("key", sa.Text, primary_key=True),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("free_at", pg.TIMESTAMP(timezone=True), nullable=False),  # until then nothing is admitted
        sa.Column("forgotten_at", pg.TIMESTAMP(timezone=True), nullable=False),
        # Written at every attempt, worth nothing after an hour.
        prefixes=["UNLOGGED"],
    )
    op.create_index("throttles_forgotten", "throttles", ["forgotten_at"])


def downgrade() -> None:
    op.drop_table("throttles")
    op.drop_table("accounts")
