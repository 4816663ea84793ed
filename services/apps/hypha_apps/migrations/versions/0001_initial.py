"""
Sessions of apps, the replicas that drive them, and what has to be remembered about workers and daemons.

Ordinary tables: whatever crashes, somebody has to stop what was started.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql as pg

revision = "0001"
down_revision = None

_NOW = sa.func.now()


def upgrade() -> None:
    _create_sessions()
    # A replica that is not heard of for a few seconds has died: others finish what it was doing.
    op.create_table(
        "app_replicas",
        sa.Column("instance", sa.Text, primary_key=True),
        sa.Column("expires_at", pg.TIMESTAMP(timezone=True), nullable=False),
    )
    op.create_table(
        "app_leases",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("holder", sa.Text, nullable=False),
        sa.Column("epoch", sa.BigInteger, nullable=False),
        sa.Column("expires_at", pg.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("progress", sa.Text, nullable=False, server_default=""),
    )
    op.create_table(
        "disabled_workers",
        sa.Column("workspace", sa.Text, primary_key=True),  # where it is not to be used
        sa.Column("worker_id", sa.Text, primary_key=True),  # ws/client:service
    )
    op.create_table(
        "app_daemons",
        sa.Column("workspace", sa.Text, primary_key=True),
        sa.Column("app_id", sa.Text, primary_key=True),
        sa.Column("tries", sa.Integer, nullable=False, server_default="0"),  # starts since it last ran for a minute
        sa.Column("next_try_at", pg.TIMESTAMP(timezone=True), nullable=False, server_default=_NOW),
        _flag("held"),  # somebody stopped it
        _flag("no_worker"),  # there was none for it
    )
    op.create_table(
        "app_autoscaling",
        sa.Column("workspace", sa.Text, primary_key=True),
        sa.Column("app_id", sa.Text, primary_key=True),
        sa.Column("config", sa.LargeBinary, nullable=False),  # msgpack: the manifest's autoscaling
        sa.Column("starter", sa.LargeBinary, nullable=False),  # msgpack: UserInfo of who starts further instances
        sa.Column("scaled_up_at", pg.TIMESTAMP(timezone=True)),
        sa.Column("scaled_down_at", pg.TIMESTAMP(timezone=True)),
        _flag("engaged"),  # it has been started, and not been stopped on purpose: instances that are lost come back
        sa.Column("tries", sa.Integer, nullable=False, server_default="0"),  # starts since all ran for a minute
        sa.Column("next_try_at", pg.TIMESTAMP(timezone=True), nullable=False, server_default=_NOW),
    )


def downgrade() -> None:
    for table in (
        "app_autoscaling",
        "app_daemons",
        "disabled_workers",
        "app_leases",
        "app_replicas",
        "app_sessions",
    ):
        op.drop_table(table)


def _flag(name: str) -> sa.Column[bool]:
    return sa.Column(name, sa.Boolean, nullable=False, server_default=sa.false())


def _create_sessions() -> None:
    op.create_table(
        "app_sessions",
        sa.Column("workspace", sa.Text, primary_key=True),
        sa.Column("client_id", sa.Text, primary_key=True),
        sa.Column("app_id", sa.Text, nullable=False),
        _flag("stage"),  # of the draft
        sa.Column("variant", sa.Text, nullable=False, server_default=""),  # its version; empty: there is only one
        sa.Column("status", sa.Text, nullable=False),
        _flag("exclusive"),  # while it starts or runs no other exclusive one of the same variant does
        sa.Column("epoch", sa.BigInteger, nullable=False, server_default="1"),
        sa.Column("owner", sa.Text, nullable=False),  # the replica that starts or stops it
        sa.Column("starter", sa.LargeBinary, nullable=False),  # msgpack: UserInfo of who it runs as
        sa.Column("token_id", sa.Text, nullable=False, server_default=""),
        sa.Column("worker_id", sa.Text, nullable=False, server_default=""),  # ws/client:service
        # Who runs it, ws/client; empty: no worker has been asked yet.
        sa.Column("worker", sa.Text, nullable=False, server_default=""),
        sa.Column("wait_for", sa.Text),  # service that makes it running; empty: its client; null: nothing
        sa.Column("deadline", pg.TIMESTAMP(timezone=True), nullable=False),  # of its start or of its end
        sa.Column("record", sa.LargeBinary, nullable=False),  # msgpack: what clients are told
        _flag("daemon"),
        _flag("worker_managed"),
        _flag("autoscaled"),
        sa.Column("stop_after_inactive", sa.Float, nullable=False, server_default="0"),  # seconds; 0: never
        sa.Column("last_active", pg.TIMESTAMP(timezone=True), nullable=False, server_default=_NOW),
        sa.Column("load", sa.Float, nullable=False, server_default="0"),  # messages a minute
        sa.Column("reported_at", pg.TIMESTAMP(timezone=True)),  # when a gateway last told of these two
        sa.Column("reason", sa.Text, nullable=False, server_default=""),  # why it ended
        sa.Column("failure", sa.LargeBinary),  # msgpack: the error of a start, for whoever waits for it
        _flag("untold"),  # its worker was away when it ended, and may still run it
        sa.Column("started_at", pg.TIMESTAMP(timezone=True), nullable=False, server_default=_NOW),
        sa.Column("ended_at", pg.TIMESTAMP(timezone=True)),
        sa.CheckConstraint("status IN ('starting', 'running', 'stopping', 'stopped', 'failed')", name="status"),
    )
    op.create_index(
        "app_sessions_exclusive",
        "app_sessions",
        ["workspace", "app_id", "stage", "variant"],
        unique=True,
        postgresql_where=sa.text("exclusive AND status IN ('starting', 'running')"),
    )
    op.create_index("app_sessions_app", "app_sessions", ["workspace", "app_id"])
    op.create_index("app_sessions_worker", "app_sessions", ["worker"])
    op.create_index("app_sessions_status", "app_sessions", ["status", "last_active"])
    op.create_index("app_sessions_untold", "app_sessions", ["worker"], postgresql_where=sa.text("untold"))
