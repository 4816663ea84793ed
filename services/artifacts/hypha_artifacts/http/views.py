from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from hypha_artifacts.actor import Actor
from hypha_artifacts.addresses import as_switch
from hypha_artifacts.blobs import check_path
from hypha_artifacts.files.file_rows import FileRow, find_files
from hypha_artifacts.files.media_type import media_type
from hypha_artifacts.files.view import View, view_of
from hypha_artifacts.listing.finder import Finder
from hypha_artifacts.listing.options import Options
from hypha_artifacts.record import present
from hypha_artifacts.views.built_in import PAGE_SIZE, built_in_template, page_variables
from hypha_artifacts.views.config import ViewConfig
from hypha_artifacts.views.rendering import MAX_TEMPLATE_BYTES, Rendering, rendering_failed
from hypha_common.errors import BadRequest, NotFound, PermissionDenied
from hypha_common.plans import HttpCall, Plan, Reply, Store
from hypha_common.principal import Principal

from .file_answers import send_file
from .file_visitor import artifact_for

if TYPE_CHECKING:
    from hypha_artifacts.core import Core
    from hypha_artifacts.record import Artifact
    from hypha_common.plans import Headers

    from .routes import Handler

__all__ = ["ViewRoutes"]

_INDEX = "index.html"
_HTML = "text/html; charset=utf-8"


class ViewRoutes:
    """Artifacts as sites: their files, templates among them, or a page of ours (contract 02 §3.5)."""

    def __init__(self, core: Core, rendering: Rendering) -> None:
        self._core = core
        self._rendering = rendering
        self._finder = Finder(core)

    def handlers(self) -> dict[str, Handler]:
        return {"artifact_view": self.view}

    async def view(self, call: HttpCall) -> Plan:
        """Return how to answer for a page of a site. Raises HyphaError."""
        artifact = await self._artifact(call)
        view = view_of(artifact, call.first("version") or None, as_switch("stage", call.first("stage")))
        artifact = _as_staged(artifact) if view.staged else artifact
        config = ViewConfig.of(artifact)
        page = _page_of(call.params.get("path", ""))
        if page == _INDEX and config.is_built_in:
            plan: Plan = await self._built_in(call, artifact, config)
        elif "path" not in call.params and "text/html" in call.headers.get("accept", ""):
            return _elsewhere(call, artifact.alias)  # what its pages refer to is below it
        else:
            file = await self._file(artifact, view, config, page)
            if file is None:
                return await self._missing(call, artifact, view, config, page)
            plan = await self._page(call, artifact, config, page, file)
        if call.method == "GET":
            self._core.counters.viewed(artifact.id)
        return plan

    async def _artifact(self, call: HttpCall) -> Artifact:
        try:
            return await artifact_for(call, self._core.access, "get_file", None)
        except NotFound:
            raise NotFound(f"Artifact `{call.params['alias']}` not found") from None

    async def _file(self, artifact: Artifact, view: View, config: ViewConfig, page: str) -> FileRow | None:
        """Return the file of a page, if its bytes are there."""
        path = config.path_of(page)
        row = (await find_files(self._core.rows.shard(artifact.name), view, [path])).get(path)
        if row is None or (row.size is not None and not row.changing):
            return row
        stored = await self._core.store.head(row.key)
        if stored is None:
            return None
        kind = row.content_type or stored.content_type
        return FileRow(path, row.key, stored.size, stored.etag, kind, stored.modified_at)

    async def _missing(self, call: HttpCall, artifact: Artifact, view: View, config: ViewConfig, page: str) -> Plan:
        """Lead on to the folder of that name, where it has a page. Raises NotFound."""
        if not page.endswith(_INDEX) and await self._file(artifact, view, config, f"{page}/{_INDEX}") is not None:
            return _elsewhere(call, page.rpartition("/")[2])
        raise NotFound(f"File not found: {page}", rpc_type="FileNotFoundError")

    async def _page(self, call: HttpCall, artifact: Artifact, config: ViewConfig, page: str, file: FileRow) -> Plan:
        if page not in config.templates:
            return _with_headers(send_file(self._core.store, file, call), config.headers)
        if (file.size or 0) > MAX_TEMPLATE_BYTES:
            raise rendering_failed(f"the template is larger than {MAX_TEMPLATE_BYTES} bytes")
        try:
            source = (await self._core.store.read(file.key)).decode()
        except UnicodeDecodeError:
            raise rendering_failed("the template is not UTF-8") from None
        body = await self._rendering.render(source, self._variables(call, artifact, config), owner=artifact.workspace)
        return _page_reply(call, body, media_type(file.content_type, page), config.headers)

    def _variables(self, call: HttpCall, artifact: Artifact, config: ViewConfig) -> dict[str, Any]:
        settings = self._core.settings
        here, name = call.base_url, f"{quote(artifact.workspace, safe='')}/{{}}/{quote(artifact.alias, safe='')}"
        return {
            "public_base_url": settings.public_base_url,
            "local_base_url": settings.local_base_url,
            "view_base_url": f"{here}/{name.format('view')}",
            "artifact_base_url": f"{here}/{name.format('artifacts')}",
            "artifact": present(artifact),
            "workspace": artifact.workspace,
            "user": {"id": call.user["id"]},
            "metadata": config.metadata,
        }

    async def _built_in(self, call: HttpCall, artifact: Artifact, config: ViewConfig) -> Reply:
        children = await self._children(call, artifact) if artifact.type == "collection" else None
        body = await self._rendering.render(
            built_in_template(), page_variables(artifact, call.base_url, children), owner=artifact.workspace
        )
        return _page_reply(call, body, _HTML, config.headers)

    async def _children(self, call: HttpCall, artifact: Artifact) -> dict[str, Any] | None:
        """Return a page of what the caller may list of a collection; None where that is nothing at all."""
        number = call.first("page", "1")
        if not number.isdecimal() or not 1 <= len(number) <= 6 or number == "0":
            raise BadRequest("page must be a number from 1")
        options = Options.of(
            offset=(int(number) - 1) * PAGE_SIZE, limit=PAGE_SIZE, order_by="last_modified>", pagination=True
        )
        actor = Actor(Principal.load(call.user), call.workspace)
        try:
            found: dict[str, Any] = await self._finder.find(actor, options, parent_id=str(artifact.name))
        except PermissionDenied:
            return None
        return found


def _as_staged(artifact: Artifact) -> Artifact:
    """Return an artifact as its draft would make it."""
    draft = artifact.draft
    if draft is None:
        return artifact
    return replace(
        artifact,
        manifest=artifact.manifest if draft.manifest is None else draft.manifest,
        config=artifact.config if draft.config is None else draft.config,
        type=draft.type or artifact.type,
    )


def _page_of(path: str) -> str:
    """Return the path of a page: a folder's is its index. Raises BadRequest where it leads out of the site."""
    page = check_path(path.removesuffix("/"), folder=True)
    if page and not path.endswith("/"):
        return page
    return f"{page}/{_INDEX}" if page else _INDEX


def _elsewhere(call: HttpCall, folder: str) -> Reply:
    """Lead to the same place with a slash behind it, from where relative addresses are right."""
    query = call.headers.get("x-hypha-raw-query", "")
    location = f"./{quote(folder, safe='')}/" + (f"?{query}" if query else "")
    return Reply(307, [("location", location), ("cache-control", "private, no-cache")])


def _page_reply(call: HttpCall, body: bytes, content_type: str, own: Headers) -> Reply:
    headers = _merged([("content-type", content_type), ("cache-control", "private, no-cache")], own)
    if call.method == "HEAD":
        return Reply(200, [*headers, ("content-length", str(len(body)))])
    return Reply(200, headers, body)


def _with_headers(plan: Plan, own: Headers) -> Plan:
    if isinstance(plan, Store) or (isinstance(plan, Reply) and plan.status >= 400):
        return plan
    return replace(plan, headers=_merged(plan.headers, own))


def _merged(headers: Headers, own: Headers) -> Headers:
    names = {name for name, _ in own}
    return [*(pair for pair in headers if pair[0] not in names), *own]
