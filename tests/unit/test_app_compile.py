from __future__ import annotations

import json
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypha_browser_worker.templates import CONFIG_KEYS, page_config
from hypha_browser_worker.templates import compile as compile_app
from hypha_common.errors import BadRequest

_PLUGIN = """
<config lang="yaml">
name: Segment
type: {cpu: web-worker, view: window}
tags: [cpu, view]
requirements: {view: [style.css]}
env: {cpu: {THREADS: "2"}}
</config>
<docs># How to use it</docs>
<window><p id="a">1 &lt; 2</p><script>shown()</script></window>
<style>p > b { color: red }</style>
<script lang="javascript" tag="cpu">if (a < b) api.export({})</script>
<script lang="javascript" tag="view">api.export({view: true})</script>
"""


class _Page(HTMLParser):
    """What a browser makes of a page: its tags, its title, and the text of each script by id."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.texts: dict[str, str] = {}
        self._inside = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self._inside = dict(attrs).get("id") or tag

    def handle_data(self, data: str) -> None:
        self.texts[self._inside] = self.texts.get(self._inside, "") + data


def _files(**contents: Any) -> list[dict[str, Any]]:
    return [{"name": name.replace("_", "."), "content": content} for name, content in contents.items()]


def _compiled(manifest: dict[str, Any], files: Any, **config: Any) -> tuple[dict[str, Any], dict[str, str]]:
    made, compiled = compile_app(manifest, files, config)
    assert all(file["path"].endswith(file["name"]) for file in compiled)
    return made, {file["path"]: file["content"] for file in compiled}


@pytest.mark.parametrize(
    ("type_", "name"),
    [("window", "main.js"), ("web-worker", "main.mjs"), ("web-worker", "source"), ("web-python", "m.py")],
)
def test_scripts_get_a_page(type_: str, name: str) -> None:
    """The page loads the script, which stays a file of its own; nothing about a running app is in it."""
    manifest = {"type": type_, "name": "A", "entry_point": name, "other": 1}
    made, files = _compiled(manifest, [{"path": name, "content": "x"}], server_url="http://hub.example")
    assert made == {**manifest, "entry_point": "index.html"}
    assert set(files) == {name, "index.html"} and files[name] == "x"
    facts = json.loads(_Page(files["index.html"]).texts["hypha-page"])
    assert facts["script"] == name
    assert facts["is_module"] is name.endswith("js")
    assert "hub.example" not in files["index.html"]


def test_pyodide_address() -> None:
    manifest = {"type": "web-python", "entry_point": "main.py"}
    _, files = _compiled(manifest, _files(main_py="x"))
    assert json.loads(_Page(files["index.html"]).texts["hypha-page"])["pyodide_url"] == (
        "https://cdn.jsdelivr.net/pyodide/v0.28.0/full/"
    )
    _, files = _compiled(manifest, _files(main_py="x"), pyodide_url="/pyodide")
    assert json.loads(_Page(files["index.html"]).texts["hypha-page"])["pyodide_url"] == "/pyodide/"


def test_compiled_apps_stay_as_they_are() -> None:
    once = compile_app({"type": "window", "entry_point": "main.js"}, _files(main_js="x"))
    assert compile_app(*once) == once
    again = compile_app({"type": "window", "entry_point": "main.js"}, once[1])
    assert again == once


@pytest.mark.parametrize("type_", ["window", "iframe", "hypha", "web-worker"])
@pytest.mark.parametrize("start", ["<!DOCTYPE html><p>", "\n<!-- x --> <html>", "<html lang='en'>"])
def test_pages_stay_as_they_are(type_: str, start: str) -> None:
    expected = {"type": "window" if type_ == "hypha" else type_, "entry_point": "index.html"}
    assert _compiled({"type": type_}, _files(source=start)) == (expected, {"index.html": start})
    ready = {"type": type_, "entry_point": "index.html"}
    assert _compiled(ready, _files(index_html=start)) == (expected, {"index.html": start})


def test_addresses_stay_as_they_are() -> None:
    for type_ in ("web-app", "window", "iframe"):
        manifest = {"type": type_, "entry_point": "https://example.org/x"}
        assert _compiled(manifest, None) == (manifest, {})


def test_binary_files_pass() -> None:
    """What is not text is none of our business, nor what is in other files."""
    files = [
        {"name": "main.js", "content": b"x"},
        {"name": "a.bin", "content": b"\xff"},
        {"name": "source", "content": b"\xff"},
    ]
    _, compiled = _compiled({"type": "window", "entry_point": "main.js"}, files)
    assert compiled["a.bin"] == b"\xff"
    encoded = {"name": "main.js", "format": "base64", "content": "data:text/javascript;base64,eA=="}
    assert set(_compiled({"type": "window", "entry_point": "main.js"}, [encoded])[1]) == {"main.js", "index.html"}


def test_plugins() -> None:
    """The first tag decides, or the one that is asked for; sections come to the page to the letter."""
    made, files = _compiled({"type": "hypha", "name": "x"}, _files(source=_PLUGIN))
    assert made == {
        "type": "web-worker",
        "name": "Segment",
        "tags": ["cpu", "view"],
        "env": {"THREADS": "2"},
        "docs": "# How to use it",
        "entry_point": "index.html",
    }
    assert files["main.js"] == "if (a < b) api.export({})"
    made, files = _compiled({"type": "hypha"}, _files(source=_PLUGIN, main_js="the first"), tag="view")
    assert made["type"] == "window" and made["requirements"] == ["style.css"] and "env" not in made
    assert files["main.js"] == "api.export({view: true})"
    assert '<p id="a">1 &lt; 2</p><script>shown()</script>' in files["index.html"]
    assert "<style>\np > b { color: red }\n</style>" in files["index.html"]
    assert set(files) == {"main.js", "index.html"}


def test_plugins_that_were_read_already() -> None:
    """Whoever installs apps has merged the <config> and taken the first script out: the rest is still in the source."""
    source = (
        """<config>{"type": "window", "env": {"COLOUR": "red"}}</config><window><b>x</b></window><script>y()</script>"""
    )
    manifest = {"type": "window", "entry_point": "main.js", "env": {"COLOUR": "red"}, "requirements": None}
    made, files = _compiled(manifest, _files(source=source, main_js="y()"))
    assert made == {**manifest, "entry_point": "index.html"}
    assert set(files) == {"main.js", "index.html"} and "<b>x</b>" in files["index.html"]
    by_tag = {"type": "hypha", "entry_point": "main.js", "requirements": {"view": ["style.css"]}, "env": {"cpu": {}}}
    made, files = _compiled(by_tag, _files(source=_PLUGIN, main_js="x"))
    assert made["type"] == "web-worker" and "requirements" not in made and made["env"] == {"THREADS": "2"}
    other = _PLUGIN.replace("requirements: {view: [style.css]}", "icon: {dark: a.png, light: b.png}")
    assert _compiled({"type": "hypha"}, _files(source=other))[0]["icon"] == {"dark": "a.png", "light": "b.png"}


def test_python_plugin() -> None:
    source = '<config lang="json">{"name": "p"}</config><script lang="python">print(1 < 2)</script>'
    made, files = _compiled({"type": "hypha"}, _files(source=source))
    assert made["type"] == "web-python"
    assert files["main.py"] == "print(1 < 2)"


def _plugin(config: str, script: str = "<script>x</script>", lang: str = ' lang="json"') -> list[dict[str, Any]]:
    return _files(source=f"<config{lang}>{config}</config>{script}")


@pytest.mark.parametrize(
    ("manifest", "files", "expected"),
    [
        ({"type": "conda"}, [], "Browsers run apps of the types"),
        ({"type": "window"}, [{"content": "x"}], "'name' or 'path'"),
        ({"type": "window"}, [], "no file 'source'"),
        ({"type": "window", "entry_point": 3}, [], "'entry_point' must be"),
        ({"type": "window"}, _files(source="  "), "is empty"),
        ({"type": "window"}, _files(source=b"\xff"), "not UTF-8"),
        ({"type": "window"}, [{"name": "source", "format": "base64", "content": "#"}], "not base64"),
        ({"type": "window"}, [{"name": "source", "content": {"a": 1}}], "has no text"),
        ({"type": "window", "entry_point": "../x.js"}, [{"name": "../x.js", "content": "x"}], "no path of a file"),
        ({"type": "window", "entry_point": "//x.js"}, [{"name": "//x.js", "content": "x"}], "no path of a file"),
        ({"type": "window", "entry_point": "m.py"}, _files(m_py="x"), "are in javascript; 'm.py' is not"),
        ({"type": "web-python", "entry_point": "m.js"}, _files(m_js="x"), "are in python; 'm.js' is not"),
        ({"type": "window", "entry_point": "m.ts"}, _files(m_ts="x"), "TypeScript does not run in browsers"),
        ({"type": "window", "entry_point": "main.txt"}, _files(main_txt="x"), "is no script"),
        ({"type": "window", "entry_point": "m.js"}, _files(m_js="x", index_html="<p>"), "'index.html' already"),
        ({"type": "window", "entry_point": "index.html"}, _files(index_html="api.x()"), "is no HTML page"),
        ({"type": "iframe"}, _files(source="x"), "iframe are pages"),
        ({"type": "iframe"}, _plugin("{}"), "iframe are pages"),
        ({"type": "web-app", "entry_point": "index.html"}, [], "address of a page"),
        ({"type": "hypha"}, _files(source="api.export({})"), "say its type: window"),
        ({"type": "hypha"}, _plugin("{}"), "must say its type"),
        ({"type": "hypha"}, _plugin('{"type": "native-python"}'), "not 'native-python'"),
        ({"type": "hypha"}, _plugin('{"type": "window"}', lang=""), 'lang="json" or lang="yaml"'),
        ({"type": "hypha"}, _plugin('{"type":'), "is not json"),
        ({"type": "hypha"}, _plugin("[1]"), "must hold a map"),
        ({"type": "hypha"}, _plugin("a: &x 1\nb: *x", lang=" lang=yaml"), "has an alias"),
        ({"type": "hypha"}, _plugin('{"type": {"a": "window"}}'), "declares no tags"),
        ({"type": "hypha"}, _plugin('{"type": "window", "tags": "a"}'), "list of names"),
        ({"type": "hypha"}, _plugin('{"type": "window"}', ""), "no <script>"),
        ({"type": "hypha"}, _plugin('{"type": "window"}', "<script lang=ts>x</script>"), "TypeScript"),
        ({"type": "hypha"}, _plugin('{"type": "window"}', "<script lang=ruby>x</script>"), "not in 'ruby'"),
        ({"type": "window", "requirements": 3}, _files(source="x"), "must be a list"),
        ({"type": "window", "requirements": ["numpy"]}, _files(source="x"), "not 'numpy'"),
        ({"type": "window", "requirements": ["javascript:x.js"]}, _files(source="x"), "not 'javascript:x.js'"),
        ({"type": "web-worker", "requirements": ["a.css"]}, _files(source="x"), "shows nothing"),
        ({"type": "window", "required_artifact_files": ["a"]}, _files(source="x"), "are for apps of type web-python"),
    ],
)  # fmt: skip
def test_refused(manifest: dict[str, Any], files: Any, expected: str) -> None:
    with pytest.raises(BadRequest, match=expected):
        compile_app(manifest, files)


def test_unknown_tag() -> None:
    with pytest.raises(BadRequest, match="There is no tag 'gpu'; the plugin has: cpu, view"):
        compile_app({"type": "hypha"}, _files(source=_PLUGIN), {"tag": "gpu"})


@pytest.mark.parametrize(
    "requirement", ["https://x.org/a", "a.js", "lib/a.mjs", "js:a.js", "mjs:https://x.org/a", "css:b.css", "b.css"]
)
def test_requirements(requirement: str) -> None:
    manifest = {"type": "window", "requirements": [requirement]}
    assert _compiled(manifest, _files(source="x"))[0]["requirements"] == [requirement]


def test_page_config() -> None:
    manifest = {"name": "A", "version": None, "startup_context": {"user": 1}, "config": {"secrets": 1}, "env": {}}
    assert page_config(manifest) == {"name": "A", "env": {}}
    assert "name" in CONFIG_KEYS


_HOSTILE = st.one_of(
    st.text(),
    st.sampled_from(
        ["</title><script>alert(1)</script>", "</script><script>", "<!--<script>", "{{ 7 * 7 }}", "\u2028"]
    ),
)


@given(
    type_=st.sampled_from(["window", "web-worker", "web-python"]),
    name=_HOSTILE,
    script=st.text().filter(lambda text: text.strip(".") and "/" not in text),
    content=_HOSTILE.filter(lambda text: text.strip() and not text.lstrip().startswith("<")),
)
def test_nothing_of_an_app_becomes_markup(type_: str, name: str, script: str, content: str) -> None:
    """Whatever names and scripts hold, the page has the same tags, and knows the same script."""
    path = f"lib/{script}"
    files = [{"name": path, "content": content}]
    try:
        _, compiled = _compiled({"type": type_, "name": name, "entry_point": path}, files)
    except BadRequest:
        return
    plain = _compiled({"type": type_, "name": "n", "entry_point": "s"}, _files(s="x"))[1]
    page = _Page(compiled["index.html"])
    links = path.endswith((".js", ".mjs"))
    assert links or page.tags == _Page(plain["index.html"]).tags
    assert json.loads(page.texts["hypha-page"])["script"] == path
    assert compiled[path] == content


_PIECES = (
    "<",
    ">",
    "/",
    " ",
    "a",
    "b",
    '"',
    "'",
    "=",
    "-",
    "!",
    "<script ",
    "</script>",
    "<config>",
    "<window",
    "<!--",
)


@given(st.lists(st.sampled_from(_PIECES)).map("".join))
def test_any_plugin_is_read(source: str) -> None:
    """Either there is an app in it, or a sentence that says what is wrong."""
    try:
        made, _ = compile_app({"type": "hypha"}, _files(source=source))
    except BadRequest:
        return
    assert made["entry_point"] == "index.html"
