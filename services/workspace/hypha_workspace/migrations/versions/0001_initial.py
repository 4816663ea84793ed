"""
Workspaces and the registry.

``gateways``, ``clients``, ``services`` and ``loaded_workspaces`` hold only what a live socket vouches for: they are
UNLOGGED, so PostgreSQL empties them after a crash and gateways announce their connections again.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql as pg

revision = "0001"
down_revision = None

UNLOGGED = ["UNLOGGED"]


def upgrade() -> None:
    op.execute("CREATE SEQUENCE generation")
    _create_workspaces()
    _create_registry()
    for workspace, read_only in (("public", True), ("ws-user-root", False), ("ws-anonymous", True)):
        op.execute(
            sa.text(
                "INSERT INTO workspaces (id, name, persistent, owners, read_only, system, created_by)"
                " VALUES (:id, :id, true, '{root}', :read_only, true, 'root')"
            ).bindparams(id=workspace, read_only=read_only)
        )


def downgrade() -> None:
    for table in (
        "services",
        "clients",
        "gateways",
        "loaded_workspaces",
        "event_log",
        "service_types",
        "bookmarks",
        "environment",
        "workspaces",
    ):
        op.drop_table(table)
    op.execute("DROP SEQUENCE generation")


def _now() -> sa.Column[object]:
    return sa.Column("created_at", pg.TIMESTAMP(timezone=True), nullable=False, server_default=sa.func.now())


def _owner(name: str = "workspace") -> sa.Column[str]:
    return sa.Column(name, sa.Text, sa.ForeignKey("workspaces.id", ondelete="CASCADE"), nullable=False)


def _flag(name: str) -> sa.Column[bool]:
    return sa.Column(name, sa.Boolean, nullable=False, server_default=sa.false())


def _create_workspaces() -> None:
    op.create_table(
        "workspaces",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("description", sa.Text),
        _flag("persistent"),
        sa.Column("owners", pg.ARRAY(sa.Text), nullable=False, server_default="{}"),
        _flag("read_only"),
        _flag("system"),  # made here, never deleted
        sa.Column("extra", sa.LargeBinary),  # msgpack: icon, covers, docs, config
        sa.Column("created_by", sa.Text, nullable=False),
        _now(),
    )
    op.create_index("workspaces_owners", "workspaces", ["owners"], postgresql_using="gin")
    op.create_index("workspaces_transient", "workspaces", ["id"], postgresql_where=sa.text("NOT persistent"))
    op.create_table(
        "environment",
        _owner(),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("value", sa.LargeBinary, nullable=False),  # msgpack
        sa.PrimaryKeyConstraint("workspace", "key"),
    )
    op.create_table(
        "bookmarks",
        _owner(),
        sa.Column("bookmark_type", sa.Text, nullable=False),
        sa.Column("item_id", sa.Text, nullable=False),
        sa.Column("item", sa.LargeBinary, nullable=False),  # msgpack
        _now(),
        sa.PrimaryKeyConstraint("workspace", "bookmark_type", "item_id"),
    )
    op.create_table(
        "service_types",
        _owner(),
        sa.Column("type_id", sa.Text, nullable=False),
        sa.Column("info", sa.LargeBinary, nullable=False),  # msgpack
        _now(),
        sa.PrimaryKeyConstraint("workspace", "type_id"),
    )
    op.create_table(
        "event_log",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
        _owner(),
        sa.Column("user_id", sa.Text, nullable=False),
        sa.Column("event_type", sa.Text, nullable=False),
        sa.Column("data", sa.LargeBinary, nullable=False),  # msgpack
        _now(),
    )
    op.create_index("event_log_by_user", "event_log", ["workspace", "user_id", "created_at"])


def _create_registry() -> None:
    op.create_table(
        "gateways",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("expires_at", pg.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("connections", sa.Integer, nullable=False, server_default="0"),
        sa.Column("load", sa.LargeBinary),  # msgpack: {"WS/CID": requests a minute}
        # False until the gateway has told all its connections: rows that it made before may be lost.
        _flag("announced"),
        prefixes=UNLOGGED,
    )
    op.create_index("gateways_expiry", "gateways", ["expires_at"])
    op.create_table(
        "loaded_workspaces",
        sa.Column("workspace", sa.Text, primary_key=True),
        sa.Column("unload_at", pg.TIMESTAMP(timezone=True)),  # null while it has clients
        prefixes=UNLOGGED,
    )
    op.create_index(
        "loaded_workspaces_unload",
        "loaded_workspaces",
        ["unload_at"],
        postgresql_where=sa.text("unload_at IS NOT NULL"),
    )
    op.create_table(
        "clients",
        sa.Column("workspace", sa.Text, nullable=False),
        sa.Column("client_id", sa.Text, nullable=False),
        sa.Column("generation", sa.BigInteger, nullable=False),
        sa.Column("gateway", sa.Text, nullable=False),
        sa.Column("previous_gateway", sa.Text),
        sa.Column("previous_generation", sa.BigInteger),
        sa.Column("user_id", sa.Text, nullable=False),
        sa.Column("identity", sa.LargeBinary, nullable=False),  # msgpack: UserInfo
        _now(),
        sa.PrimaryKeyConstraint("workspace", "client_id"),
        prefixes=UNLOGGED,
    )
    op.create_index("clients_gateway", "clients", ["gateway"])
    op.create_index("clients_user", "clients", ["user_id"])
    _create_services()


def _create_services() -> None:
    # Each question has one column that answers it, and one index: with (workspace, service_id) beside (workspace,
    # client_id) the planner takes either for both while the tables are small, and keeps to it when they are not.
    op.create_table(
        "services",
        sa.Column("workspace", sa.Text, nullable=False),
        sa.Column("client_id", sa.Text, nullable=False),
        sa.Column("service_id", sa.Text, nullable=False),
        sa.Column("provider", sa.Text, sa.Computed("workspace || '/' || client_id", persisted=True), nullable=False),
        sa.Column("name", sa.Text, sa.Computed("workspace || '/' || service_id", persisted=True), nullable=False),
        sa.Column("seq", sa.BigInteger, sa.Identity(always=True), nullable=False),  # order of registration
        sa.Column("generation", sa.BigInteger, nullable=False),
        sa.Column("app_id", sa.Text, nullable=False),
        sa.Column("type", sa.Text, nullable=False),
        sa.Column("visibility", sa.Text, nullable=False),
        _flag("singleton"),
        sa.Column("authorized_workspaces", pg.ARRAY(sa.Text), nullable=False, server_default="{}"),
        sa.Column("info", sa.LargeBinary, nullable=False),  # msgpack: ServiceInfo
        sa.PrimaryKeyConstraint("provider", "service_id"),
        prefixes=UNLOGGED,
    )
    op.create_index("services_name", "services", ["name"])
    op.create_index("services_workspace", "services", ["workspace", "seq"])
    op.create_index("services_singleton", "services", ["name"], unique=True, postgresql_where=sa.text("singleton"))
    op.create_index(
        "services_public",
        "services",
        ["seq"],
        postgresql_where=sa.text("visibility = 'public' AND service_id <> 'built-in'"),
    )
