"""Artifacts as sites, as gateways ask for their pages (contract 02 §3.5)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from hypha_artifacts.main import ArtifactsService
from hypha_artifacts.record import Artifact
from hypha_artifacts.views.headers import safe_headers
from hypha_common.errors import BadRequest, InternalError, NotFound, PermissionDenied
from hypha_common.plans import Fetch, Headers, Plan, Reply
from hypha_common.principal import Permission, Principal
from tests.artifacts.http_calls import fetch, plan_for, somebody, until_counted
from tests.artifacts.rows import add_artifact, add_version

STRANGER = Principal(id="stranger", is_anonymous=True)
SITE = {
    "index.html": b"<h1>home</h1>",
    "sub/index.html": b"<h1>sub</h1>",
    "sub/style.css": b"h1 { color: red }",
    "data.bin": bytes(range(256)),
    "page.html": b"<p>{{ artifact.manifest.name }} {{ user.id }} {{ metadata.greeting }}",
}


async def site(
    services: ArtifactsService, files: Mapping[str, bytes] = SITE, kind: str = "generic", **view_config: Any
) -> Artifact:
    return await make(services, files, kind, {"view_config": {"root_directory": "/", **view_config}})


async def make(
    services: ArtifactsService,
    files: Mapping[str, bytes],
    kind: str,
    config: Mapping[str, Any],
    *,
    manifest: Mapping[str, Any] = {},
    parent: Artifact | None = None,
) -> Artifact:
    artifact = await add_artifact(services.core, files=files, config=config)
    await services.core.rows.shard(artifact.name).execute(
        "UPDATE artifacts SET type = $2, manifest = $3, parent_id = $4, file_count = $5 WHERE id = $1",
        artifact.id,
        kind,
        json.dumps(manifest),
        None if parent is None else parent.id,
        len(files),
    )
    return await services.core.access.known(artifact.name)


async def view(services: ArtifactsService, artifact: Artifact, path: str | None = "", **more: Any) -> Plan:
    params = {} if path is None else {"path": path}
    return await plan_for(services, "artifact_view", artifact, **params, **more)


async def page(services: ArtifactsService, artifact: Artifact, path: str = "", **more: Any) -> tuple[str, str]:
    """Return content type and text of a page, wherever it comes from."""
    plan = await view(services, artifact, path, **more)
    assert isinstance(plan, (Fetch, Reply))
    kind = dict(plan.headers)["content-type"]
    return kind, plan.body.decode() if isinstance(plan, Reply) else (await fetch(plan)).text


async def test_files_and_folders(services: ArtifactsService) -> None:
    """A folder is its index; every request counts as a view."""
    artifact = await site(services)
    html = "text/html; charset=utf-8"
    for path in ("", "/", "index.html", "./sub/../index.html"):
        assert await page(services, artifact, path) == (html, "<h1>home</h1>")
    assert await page(services, artifact, "sub/") == (html, "<h1>sub</h1>")
    assert (await page(services, artifact, "sub/style.css"))[1] == "h1 { color: red }"
    await until_counted(services, artifact, views=6)
    with pytest.raises(NotFound, match=r"File not found: nope.html"):
        await view(services, artifact, "nope.html")
    with pytest.raises(NotFound, match=r"File not found: data.bin/index.html"):
        await view(services, artifact, "data.bin/")
    with pytest.raises(BadRequest, match="leads out of the root"):
        await view(services, artifact, "../other/index.html")


async def test_addresses_without_a_slash_lead_to_those_with_one(services: ArtifactsService) -> None:
    """For browsers: their relative links are right there. What asks for one file gets it."""
    artifact = await site(services)
    plan = await view(services, artifact, "sub", headers={"x-hypha-raw-query": "stage=true"})
    assert isinstance(plan, Reply) and plan.status == 307
    assert dict(plan.headers)["location"] == "./sub/?stage=true"
    plan = await view(services, artifact, None, headers={"accept": "text/html,*/*"})
    assert isinstance(plan, Reply)
    assert dict(plan.headers)["location"] == f"./{artifact.alias}/"
    plan = await view(services, artifact, None, headers={"accept": "*/*"})
    assert (await fetch(plan)).text == "<h1>home</h1>"


async def test_ranges_and_conditions(services: ArtifactsService) -> None:
    artifact = await site(services)
    plan = await view(services, artifact, "data.bin", headers={"range": "bytes=10-12"})
    assert (await fetch(plan)).content == b"\x0a\x0b\x0c"
    etag = dict(plan.headers)["etag"]  # type: ignore[union-attr]
    plan = await view(services, artifact, "data.bin", headers={"if-none-match": etag})
    assert isinstance(plan, Reply) and plan.status == 304
    plan = await view(services, artifact, "data.bin", method="HEAD")
    assert isinstance(plan, Reply) and dict(plan.headers)["content-length"] == "256"
    plan = await view(services, artifact, "data.bin", headers={"range": "bytes=999-"})
    assert isinstance(plan, Reply) and plan.status == 416


async def test_templates(services: ArtifactsService) -> None:
    """Only those that are named are rendered, with what they are to know."""
    config = {"templates": ["page.html"], "metadata": {"greeting": "hello"}, "headers": {"X-Site": "mine"}}
    artifact = await site(services, **config)
    assert await page(services, artifact, "page.html") == ("text/html; charset=utf-8", "<p> somebody hello")
    plan = await view(services, artifact, "page.html", method="HEAD")
    assert isinstance(plan, Reply) and plan.body == b""
    assert dict(plan.headers)["content-length"] == "18" and dict(plan.headers)["x-site"] == "mine"
    other = await site(services)
    assert "{{ user.id }}" in (await page(services, other, "page.html"))[1]


async def test_what_templates_are_told(services: ArtifactsService) -> None:
    source = b"{{ view_base_url }} {{ artifact_base_url }} {{ public_base_url }} {{ workspace }} {{ artifact.id }}"
    keys = b"{{ user }} {{ 'secrets' in artifact }}"
    artifact = await site(services, {"a": source, "b": keys}, templates=["a", "b"])
    here = "http://hub.example"
    assert (await page(services, artifact, "a"))[1] == (
        f"{here}/ws-a/view/{artifact.alias} {here}/ws-a/artifacts/{artifact.alias} {here} ws-a {artifact.name}"
    )
    assert (await page(services, artifact, "b"))[1] == "{&#39;id&#39;: &#39;somebody&#39;} False"


async def test_templates_that_fail(services: ArtifactsService) -> None:
    files = {
        "wrong": b"{% if %}", "escape": b"{{ ''.__class__.__mro__[1].__subclasses__() }}", "bytes": b"\xff",
        "large": b"x" * (2**20 + 1),
    }  # fmt: skip
    artifact = await site(services, files, templates=list(files))
    for name, why in (("wrong", "line 1"), ("escape", "unsafe"), ("bytes", "not UTF-8"), ("large", "larger than")):
        with pytest.raises(InternalError, match=f"^Template rendering failed: .*{why}"):
            await view(services, artifact, name)


async def test_a_site_in_a_folder(services: ArtifactsService) -> None:
    """Nothing outside it is served. The folder may be named beside the config of the view, too."""
    files = {"site/index.html": b"inside", "site/t.html": b"{{ 1 + 1 }}", "secret.txt": b"outside"}
    artifact = await site(services, files, root_directory="/site/", templates=["t.html"])
    assert (await page(services, artifact))[1] == "inside"
    assert (await page(services, artifact, "t.html"))[1] == "2"
    with pytest.raises(NotFound):
        await view(services, artifact, "secret.txt")
    with pytest.raises(BadRequest):
        await view(services, artifact, "../secret.txt")
    config = {"root_directory": "site", "view_config": {"templates": []}}
    assert (await page(services, await make(services, files, "generic", {**config, "view_config": {"cache": {}}})))[
        1
    ] == "inside"


@pytest.mark.parametrize(
    ("kind", "config", "error", "text"),
    [
        ("generic", {}, BadRequest, "This artifact type does not support view mode"),
        ("collection", {"view_config": "disabled"}, NotFound, "View access is disabled for this artifact"),
        ("generic", {"view_config": "x"}, BadRequest, "must be a map"),
        ("generic", {"view_config": {"template_engine": "mako"}}, BadRequest, "Unsupported template engine: mako"),
        ("generic", {"view_config": {"use_builtin_template": True}}, BadRequest, "no built-in template"),
        ("generic", {"view_config": {"templates": "x"}}, BadRequest, "must be a list"),
        ("generic", {"view_config": {"templates": [1]}}, BadRequest, "Invalid file path"),
        ("generic", {"view_config": {"root_directory": "../.."}}, BadRequest, "leads out of the root"),
    ],
)
async def test_what_cannot_be_viewed(
    services: ArtifactsService, kind: str, config: dict[str, Any], error: type[Exception], text: str
) -> None:
    artifact = await make(services, SITE, kind, config)
    with pytest.raises(error, match=text):
        await view(services, artifact)


async def test_who_may_view(services: ArtifactsService) -> None:
    artifact = await site(services)
    with pytest.raises(PermissionDenied):
        await view(services, artifact, user=STRANGER)
    scoped = somebody(Permission.ADMIN, scopes=[f"get_file:{artifact.name}:index.html"])
    with pytest.raises(PermissionDenied):
        await view(services, artifact, user=scoped)
    with pytest.raises(NotFound, match="Artifact `nope` not found"):
        await plan_for(services, "artifact_view", artifact, path="", alias="nope")


async def test_versions_and_drafts(services: ArtifactsService) -> None:
    artifact = await site(services, {"index.html": b"v0"})
    await add_version(services.core, artifact, {"index.html": b"v1"})
    assert (await page(services, artifact))[1] == "v1"
    assert (await page(services, artifact, query=[("version", "v0")]))[1] == "v0"
    draft = await add_artifact(services.core, staged=True, config={"view_config": {"templates": []}})
    with pytest.raises(NotFound):
        await view(services, draft, query=[("stage", "true")])


async def test_a_draft_is_shown_as_it_would_be(services: ArtifactsService) -> None:
    """With its config and manifest, before readers see any of it."""
    artifact = await site(services, {"index.html": b"{{ artifact.manifest.name }}"})
    await services.core.rows.shard(artifact.name).execute(
        "UPDATE artifacts SET intent = 'edit_version', staged_config = $2, staged_manifest = $3 WHERE id = $1",
        artifact.id,
        json.dumps({"view_config": {"templates": ["index.html"]}}),
        json.dumps({"name": "New"}),
    )
    assert (await page(services, artifact, query=[("stage", "true")]))[1] == "New"
    assert (await page(services, artifact))[1] == "{{ artifact.manifest.name }}"


async def test_headers_of_a_site(services: ArtifactsService) -> None:
    headers = {"Referrer-Policy": "no-referrer", "Cache-Control": "max-age=60", "Set-Cookie": "a=b"}
    artifact = await site(services, headers=headers)
    plan = await view(services, artifact)
    assert isinstance(plan, Fetch)
    found = dict(plan.headers)
    assert (found["referrer-policy"], found["cache-control"]) == ("no-referrer", "max-age=60")
    assert "set-cookie" not in found
    assert len(found) == len(plan.headers)


@pytest.mark.parametrize(
    ("wanted", "kept"),
    [
        ({"X-Custom": " a "}, [("x-custom", "a")]),
        ({"X-Custom": "a", "x-custom": "b"}, [("x-custom", "b")]),
        ({"Content-Security-Policy": "default-src 'none'"}, [("content-security-policy", "default-src 'none'")]),
        ({"X-A": "a\r\nSet-Cookie: b"}, []),
        ({"X-A\r\nSet-Cookie": "b"}, []),
        ({"X-A": "ü"}, []),
        ({"X-A": 1, 2: "b", "X-B": None}, []),
        ({"Set-Cookie": "a=b", "Location": "/", "Content-Length": "1", "Transfer-Encoding": "chunked"}, []),
        ({"Clear-Site-Data": "*", "Service-Worker-Allowed": "/", "Strict-Transport-Security": "max-age=0"}, []),
        ({"X-Accel-Redirect": "/", "X-Sendfile": "/etc/passwd", "X-Forwarded-For": "1.1.1.1", "x-": "a"}, []),
        ({"Access-Control-Allow-Credentials": "true", "Content-Type": "text/html", "Refresh": "0"}, []),
        ({"X-A": "a" * 5000}, []),
        ([("X-A", "a")], []),
        (None, []),
    ],
)
def test_headers_that_pages_may_have(wanted: object, kept: Headers) -> None:
    assert safe_headers(wanted) == kept


async def test_the_page_of_a_collection(services: ArtifactsService) -> None:
    """It lists what the visitor may list, everything escaped, and leads to its pages."""
    manifest = {
        "name": "<Zoo> & more", "description": "Animals", "tags": ["wild"], "covers": ["//evil.example/x.png"],
        "links": [{"label": "Web", "url": "https://zoo.example"}, {"label": "Bad", "url": "javascript:alert(1)"}],
    }  # fmt: skip
    public = {"permissions": {"*": "r"}}
    collection = await make(services, {}, "collection", public, manifest=manifest)
    for n in range(50):
        await make(services, {}, "model", {}, manifest={"name": f"Animal {n}"}, parent=collection)
    app = {"name": "<script>alert(1)</script>", "covers": ["javascript:alert(2)"]}
    await make(services, {}, "application", {}, manifest=app, parent=collection)
    kind, first = await page(services, collection, user=STRANGER)
    second = (await page(services, collection, user=STRANGER, query=[("page", "2")]))[1]
    assert kind == "text/html; charset=utf-8"
    assert "&lt;Zoo&gt; &amp; more" in first and "https://zoo.example" in first
    assert "1–48 of 51" in first and 'href="?page=2"' in first
    assert "49–51 of 51" in second and 'href="?page=1"' in second and "?page=3" not in second
    both = first + second
    assert all(f"Animal {n}<" in both for n in range(50))
    assert "javascript:" not in both and "<script" not in both and 'src="//' not in both
    assert f"http://hub.example/ws-a/artifacts/{collection.alias}/files/evil.example/x.png" in first
    assert "There is no such page" in (await page(services, collection, query=[("page", "99")]))[1]
    with pytest.raises(BadRequest, match="page must be a number"):
        await view(services, collection, query=[("page", "x")])


async def test_an_empty_collection_and_one_that_may_not_be_listed(services: ArtifactsService) -> None:
    collection = await make(services, {}, "collection", {})
    assert "There is nothing in this collection yet" in (await page(services, collection))[1]
    closed = await make(services, {}, "collection", {"permissions": {"*": ["get_file"]}})
    await make(services, {}, "model", {}, manifest={"name": "Hidden child"}, parent=closed)
    shown = (await page(services, closed, user=STRANGER))[1]
    assert "Hidden child" not in shown and "Items" not in shown
    assert "Hidden child" in (await page(services, closed))[1]


async def test_the_page_of_an_application(services: ArtifactsService) -> None:
    manifest = {"name": "Calculator", "services": [{"name": "Adder"}, {"id": "multiplier"}, "odd"], "id_emoji": "🧮"}
    artifact = await make(services, {"main.py": b"x"}, "application", {}, manifest=manifest)
    shown = (await page(services, artifact))[1]
    assert "Calculator" in shown and "Adder" in shown and "multiplier" in shown and "🧮" in shown
    assert f"/ws-a/artifacts/{artifact.alias}/create-zip-file" in shown and "1 file<" in shown
    assert (await page(services, artifact, "main.py"))[1] == "x"
    own = await site(services, kind="application", use_builtin_template=True)
    assert "Application in workspace ws-a" in (await page(services, own))[1]
    assert (await page(services, own, "sub/"))[1] == "<h1>sub</h1>"
    plain = await site(services, kind="application")
    assert (await page(services, plain))[1] == "<h1>home</h1>"
