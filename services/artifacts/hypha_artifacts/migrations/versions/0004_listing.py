"""
What lists of artifacts need: indexes, coarse ranks of counters, and the text that keywords are looked for in.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

_COMMITTED = sa.text("version_count > 0")
_COUNTERS = {"views": "view", "downloads": "download"}


def upgrade() -> None:
    # Room for new versions of rows beside the old: counters are written often, and no index has to hear of it.
    op.execute("ALTER TABLE artifacts SET (fillfactor = 85)")
    _ranks()
    _indexes()
    _words()


def _ranks() -> None:
    """
    Eighths of an octave: what an index orders counters by, without being told of every view.

    PostgreSQL leaves indexes alone where no column of theirs changes, and a rank seldom does.

    """
    for counter in _COUNTERS.values():
        rank = f"floor(8 * ln(least(greatest({counter}_count, 0), 1e300) + 1) / ln(2::float8))::smallint"
        op.add_column("artifacts", sa.Column(f"{counter}_rank", sa.SmallInteger, sa.Computed(rank, persisted=True)))
    for name, counter in _COUNTERS.items():
        columns = ["parent_id", f"{counter}_rank", "id"]
        op.create_index(f"artifacts_by_{name}", "artifacts", columns, postgresql_where=_COMMITTED)


def _indexes() -> None:
    op.create_index(
        "artifacts_by_creation", "artifacts", ["parent_id", "created_at", "id"],
        postgresql_include=["type"], postgresql_where=_COMMITTED,
    )  # fmt: skip
    op.create_index(
        "artifacts_by_change", "artifacts", ["parent_id", "last_modified", "id"], postgresql_where=_COMMITTED
    )
    # Roots, collections and everything of a workspace: there may be few roots, and collections of many artifacts.
    op.create_index(
        "artifacts_by_parent", "artifacts", ["workspace", "parent_id", "id"], postgresql_include=["version_count"]
    )
    op.create_index(
        "artifacts_drafts", "artifacts", ["parent_id", "id"], postgresql_where=sa.text("intent IS NOT NULL")
    )
    is_inbox = sa.text("""config @> '{"private_children": true}'""")
    op.create_index("artifacts_inboxes", "artifacts", ["workspace"], postgresql_where=is_inbox)
    op.create_index(
        "artifacts_manifest", "artifacts", ["manifest"], postgresql_using="gin",
        postgresql_ops={"manifest": "jsonb_path_ops"},
    )  # fmt: skip


def _words() -> None:
    """Functions of which the planner knows the cost, and an index of trigrams where there is the extension for it."""
    connection = op.get_bind()
    # Letters of all languages, whatever the locale of the database; PostgreSQL has had this collation since 17.
    unicode = connection.scalar(sa.text("SELECT true FROM pg_collation WHERE collname = 'pg_c_utf8' LIMIT 1"))
    encoding = connection.scalar(sa.text("SELECT getdatabaseencoding()"))
    collation = ' COLLATE "pg_c_utf8"' if unicode and encoding == "UTF8" else ""
    for signature, text in (("artifact_lower(text)", "$1"), ("artifact_words(jsonb)", "$1::text")):
        op.execute(f"""
            CREATE FUNCTION {signature} RETURNS text LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE COST 500
            AS $$ BEGIN RETURN lower({text}{collation}); END $$
        """)
    # Part of PostgreSQL, but not of every installation, and not for everybody.
    op.execute("""
        DO $$ BEGIN CREATE EXTENSION IF NOT EXISTS pg_trgm;
        EXCEPTION WHEN insufficient_privilege OR feature_not_supported OR undefined_file THEN NULL; END $$
    """)
    schema = connection.scalar(
        sa.text("SELECT quote_ident(nspname) FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace "
                "WHERE extname = 'pg_trgm'")
    )  # fmt: skip
    if schema is not None:
        op.execute(
            f"CREATE INDEX artifacts_words ON artifacts USING gin (artifact_words(manifest) {schema}.gin_trgm_ops)"
        )


def downgrade() -> None:
    """The extension stays: others may use it by now."""
    op.execute("DROP INDEX IF EXISTS artifacts_words")
    op.execute("DROP FUNCTION artifact_words(jsonb), artifact_lower(text)")
    for index in (
        "manifest", "inboxes", "drafts", "by_parent", "by_change", "by_creation", "by_downloads", "by_views",
    ):  # fmt: skip
        op.drop_index(f"artifacts_{index}", "artifacts")
    for counter in _COUNTERS.values():
        op.drop_column("artifacts", f"{counter}_rank")
    op.execute("ALTER TABLE artifacts RESET (fillfactor)")
