from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hypha_apps.sources.configs import read_config
from hypha_apps.sources.download import Downloads
from hypha_apps.sources.files import check_path, content_of, read_files
from hypha_apps.sources.hashing import source_hash, verify_source
from hypha_apps.sources.manifests import complete_manifest
from hypha_apps.sources.markup import is_page, read_markup
from hypha_apps.sources.reading import AppSource, read_source
from hypha_common.errors import BadRequest, HyphaError

PLUGIN = """
<docs lang="markdown">
Write <script>alert(1)</script> into your page.
</docs>
<config lang="json">
{"name": "Plugin", "type": "web-worker", "version": "0.1.1"}
</config>
<root>
  <manifest lang="yaml">
version: 0.2.0
tags: [one, two]
created: 2024-05-06
  </manifest>
  <file name="page/index.html" format="text">
    <html><script>let a = 1 &lt; 2;</script></html>
  </file>
  <!-- <script>not this one</script> -->
  <script lang="javascript">
if (a < b && c > d) { api.export({"run": () => "</div>"}); }
  </script>
</root>
"""


async def read(source: str | None, manifest: Any = None, files: Any = None) -> AppSource:
    return await read_source(source, manifest, files, Downloads())


def contents(source: AppSource) -> dict[str, bytes]:
    return {file["path"]: content_of(file) for file in source.files}


async def test_tags_of_a_plugin_become_manifest_and_files() -> None:
    found = await read(PLUGIN)
    assert found.manifest["name"] == "Plugin"
    assert found.manifest["type"] == "web-worker"
    assert found.manifest["version"] == "0.2.0"  # the later tag
    assert found.manifest["tags"] == ["one", "two"]
    assert found.manifest["created"] == "2024-05-06"
    assert found.manifest["entry_point"] == "main.js"
    assert contents(found) == {
        "page/index.html": b"<html><script>let a = 1 &lt; 2;</script></html>",  # to the letter
        "main.js": b'if (a < b && c > d) { api.export({"run": () => "</div>"}); }',
    }


async def test_several_scripts_are_several_files() -> None:
    found = await read(
        '<config>{"name": "x", "type": "web-python"}</config>'
        "<script lang='python'>one</script><script lang=python>two</script><script>three</script>"
        "<script lang='r'>four</script><script name='lib/five.js'>five</script>"
    )
    assert found.manifest["entry_point"] == "main.py"
    assert contents(found) == {
        "main.py": b"one", "main_2.py": b"two", "main.js": b"three", "main.txt": b"four", "lib/five.js": b"five",
    }  # fmt: skip


async def test_two_files_of_one_name_are_refused() -> None:
    with pytest.raises(BadRequest, match=r"several files called 'main.js'"):
        await read('<config>{"type": "window"}</config><file name="main.js">a</file><script name="main.js">b</script>')


async def test_the_format_of_a_file_in_tags_counts() -> None:
    found = await read(
        '<config>{"type": "custom"}</config><file name="a.bin" format="base64">AAEC</file>'
        '<file name="b.json" format="json"><![CDATA[{"a": 1}]]></file><file name="empty"/>text that is left'
    )
    assert contents(found) == {
        "a.bin": b"\x00\x01\x02",
        "b.json": b'{"a": 1}',
        "empty": b"",
        "source": b"text that is left",
    }
    assert found.manifest["entry_point"] == "source"


async def test_a_plugin_of_type_hypha_is_kept_whole() -> None:
    found = await read('<config>{"name": "old"}</config><window>w</window><script>s</script>')
    assert found.manifest["type"] == "hypha"
    assert set(contents(found)) == {"main.js", "source"}
    assert contents(found)["source"].startswith(b"<config>")
    shown = await read('<config>{"type": "window"}</config><window>w</window><script>s</script>')
    assert set(contents(shown)) == {"main.js", "source"}


@pytest.mark.parametrize("source", ["<!DOCTYPE html><p>Hello", "\n <html lang=en></html>", "<HTML></HTML>"])
async def test_a_page_is_a_window(source: str) -> None:
    found = await read(source)
    assert found.manifest["type"] == "window"
    assert found.manifest["name"] == "Raw HTML App"
    assert found.manifest["entry_point"] == "index.html"
    assert contents(found) == {"index.html": source.encode()}
    named = await read(source, {"name": "Mine", "type": "iframe"})
    assert (named.manifest["name"], named.manifest["type"]) == ("Mine", "iframe")


async def test_other_sources_are_stored_where_the_manifest_says() -> None:
    found = await read(
        "print(1)", {"type": "python-eval", "entry_point": "main.py"}, [{"path": "a/b.txt", "content": b"x"}]
    )
    assert contents(found) == {"main.py": b"print(1)", "a/b.txt": b"x"}
    assert found.files[1]["name"] == "b.txt"
    assert found.manifest["source_hash"] == source_hash("print(1)")


async def test_an_address_is_an_entry_point() -> None:
    found = await read("https://example.org/apps/page.html?x=1", {"type": "window"})
    assert (found.manifest["entry_point"], found.files) == ("page.html", [])
    assert (await read("http://localhost:9527/page.html", {"type": "window"})).manifest["entry_point"] == "page.html"
    # The worker opens it as it is.
    assert (await read("https://example.org/", {"type": "web-app"})).manifest["entry_point"] == "https://example.org/"
    for address in ("http://example.org/x.html", "http://localhost.example.org/x"):
        with pytest.raises(BadRequest, match="Only secured https urls are allowed"):
            await read(address, {"type": "window"})


@pytest.mark.parametrize(
    ("source", "manifest", "error"),
    [
        ("api.export({})", None, "does not say of which type"),
        ("x", {"type": "application"}, "should not be application or None"),
        ("x", {"name": "x"}, "should not be application or None"),
        ("x", {"type": 1}, "'type' must be a string"),
        ("x", "manifest", "must be a map"),
        (None, None, "Source is missing"),
        ("x", {"type": "custom", "service_ids": []}, "fields are not allowed"),
        ("<config>{'a'}</config>", None, "not valid JSON"),
        ('<config>{"a": NaN}</config>', None, "not valid JSON"),
        ("<config>[]</config>", None, "must hold a map"),
        ("<config lang=toml>a = 1</config>", None, "lang json or yaml"),
        ("<config lang=yaml>a: [</config>", None, "not valid YAML"),
        ("<config lang=yaml>a: &x [1]\nb: *x</config>", None, "alias"),
        ("<config lang=yaml>a: !!python/object:os.system {}</config>", None, "not valid YAML"),
        ('<config>{"type": "custom", "services": []}</config>', None, "fields are not allowed"),
        ("<file>x</file>", {"type": "custom"}, "must have a name"),
        ("<file name='../x'>x</file>", {"type": "custom"}, "Invalid file path"),
        ("<script lang='js", {"type": "custom"}, "ends in the middle of <script"),
        ("\ud800", {"type": "custom"}, "no valid text"),
    ],
)
async def test_what_cannot_be_read_is_refused(source: Any, manifest: Any, error: str) -> None:
    with pytest.raises(BadRequest, match=error):
        await read(source, manifest)


@pytest.mark.parametrize(
    ("file", "data"),
    [
        ({"content": "é"}, "é".encode()),
        ({"content": b"\x00"}, b"\x00"),
        ({"content": {"a": "é"}, "format": "json"}, '{\n  "a": "é"\n}'.encode()),
        ({"content": '{"a":1}', "format": "json"}, b'{"a":1}'),
        ({"content": "AA\nEC", "format": "base64"}, b"\x00\x01\x02"),
        ({"content": "data:image/png;base64,AAEC", "format": "base64"}, b"\x00\x01\x02"),
    ],
)
def test_files_are_stored_by_their_format(file: dict[str, Any], data: bytes) -> None:
    (entry,) = read_files([{"name": "x", **file}])
    assert content_of(entry) == data


@pytest.mark.parametrize(
    "file",
    [
        {"content": 1}, {"content": None}, {"content": "{", "format": "json"}, {"content": 1, "format": "json"},
        {"content": "A", "format": "base64"}, {"content": b"AAEC", "format": "base64"},
        {"content": "", "format": "tar"},
    ],
)  # fmt: skip
def test_files_whose_content_does_not_fit_are_refused(file: dict[str, Any]) -> None:
    with pytest.raises(BadRequest, match="file"):
        content_of({"path": "x", **file})


def test_paths_have_one_spelling() -> None:
    assert [check_path(path) for path in ("/a/./b", "a//b", "c/../a/b")] == ["a/b"] * 3
    for path in ("", "/", "..", "a/../..", "../a", "a\x00", None):
        with pytest.raises(BadRequest, match="Invalid file path"):
            check_path(path)
    assert read_files([{"name": "a", "content": "1"}, {"name": "./a", "content": "2"}])[0]["content"] == "2"


def test_the_hash_of_a_source_is_a_multihash() -> None:
    assert source_hash("hello") == "QmRN6wdp1S2A5EtjW9A3M1vKSBuQQGcgvuhoMUoEz4iiT5"
    assert verify_source("hello", None) == verify_source("hello", source_hash("hello"))
    with pytest.raises(BadRequest, match="verification failed"):
        verify_source("hello", source_hash("bye"))


def test_a_manifest_is_completed_and_checked() -> None:
    whole = complete_manifest({"type": "custom", "shelf": "upper", "disabled": True})
    assert (whole["version"], whole["format_version"], whole["api_version"]) == ("0.1.0", "0.2.1", "0.1.0")
    assert (whole["services"], whole["service_ids"], whole["daemon"]) == (None, [], False)
    assert (whole["shelf"], whole["disabled"]) == ("upper", True)
    with pytest.raises(BadRequest, match="'startup_config' must be a map"):
        complete_manifest({"type": "custom", "startup_config": "fast"})


PIECES = st.sampled_from([
    "<config", ">", "</config>", "<script lang='py", "'", '"', "</script>", "<file name=a>", "</file", "<!--", "-->",
    "<![CDATA[", "]]>", "<html>", "{}", '{"type": "custom"}', " lang=yaml>", "&x", "*x", ": ", "- ", "\n", "é",
    "\x00", "/",
])  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(st.lists(st.one_of(PIECES, st.text(max_size=5)), max_size=30).map("".join))
def test_whatever_somebody_writes_is_read_or_refused(source: str) -> None:
    for manifest in (None, {"type": "custom"}):
        try:
            found = asyncio.run(read(source, manifest))
        except HyphaError:
            continue
        assert isinstance(found.manifest["type"], str)
        for file in found.files:
            assert check_path(file["path"]) == file["path"]


SCALARS = st.none() | st.integers() | st.text(max_size=20)


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.text(max_size=5), SCALARS | st.lists(SCALARS, max_size=3), max_size=4))
def test_json_is_yaml(value: dict[str, Any]) -> None:
    text = json.dumps(value)
    assert read_config(text, "json") == value
    try:
        assert read_config(text, "yaml") == value
    except BadRequest as error:  # YAML has no such characters
        assert "YAML" in str(error)  # noqa: PT017


@pytest.mark.parametrize(
    "source", ["<script>" * 200_000, "<script '" * 200_000, "<!--" * 200_000, "<x " * 400_000, "<" * 1_000_000]
)
def test_a_strange_source_takes_no_longer_than_another(source: str) -> None:
    loop = asyncio.new_event_loop()
    began = loop.time()
    with contextlib.suppress(BadRequest):
        read_markup(source)
    is_page(source)
    assert loop.time() - began < 5
    loop.close()
