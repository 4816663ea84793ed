"""What a page is, and what it knows."""

from __future__ import annotations

import base64
import json
import re
from typing import Any

import pytest
from aiohttp import web

from hypha.workers.base import SessionNotFoundError, WorkerError
from hypha_browser_worker.worker import BrowserWorker
from hypha_common.errors import BadRequest

from .hub import TOKEN, Hub, browser_worker
from .pages import eventually

pytestmark = pytest.mark.browser


async def test_a_page_knows_its_app(served: Hub, worker: BrowserWorker) -> None:
    """Before its first script, and nowhere but there: not by its address."""
    script = "window.seen = window.__HYPHA__; delete window.__HYPHA__; window.at = self.origin;"
    info = await worker.start(served.config(script=script, manifest={"env": {"A": "1"}, "secret": "x"}))
    assert (info["status"], info["session_id"]) == ("running", "ws-user-ada/_rapp_app__rlb")
    seen = await worker.execute(info["session_id"], "window.seen")
    assert seen == {
        "server_url": served.url,
        "workspace": "ws-user-ada",
        "client_id": "_rapp_app__rlb",
        "app_id": "app",
        "token": TOKEN,
        "config": {"app_id": "app", "name": "app", "type": "window", "env": {"A": "1"}, "server_url": served.url},
    }
    assert await worker.execute(info["session_id"], "[typeof window.__HYPHA__, window.at]") == ["undefined", served.url]
    assert await worker.execute(info["session_id"], "location.href + document.cookie") == (
        f"{served.url}/ws-user-ada/artifacts/app/files/index.html"
    )
    assert not any(TOKEN in str(request.url) for request in served.requests)


async def test_files_are_of_the_app_and_of_its_version(served: Hub, worker: BrowserWorker) -> None:
    """The page reads the files of its own app without its token; those of others it has to ask for as anybody."""
    served.files["ws-user-ada/app/part.js"] = "window.part = 1"
    served.files["ws-user-ada/other/part.js"] = "window.part = 2"
    info = await worker.start(served.config(version="v3"))
    read = "fetch(%s).then((answer) => answer.status)"
    for path, status in (("part.js", 200), ("../../other/files/part.js", 403), ("../files/none.js", 404)):
        assert await worker.execute(info["session_id"], read % json.dumps(path)) == status
    own = [request for request in served.requests if "/app/" in request.path]
    assert {request.query["version"] for request in own} == {"v3"}
    assert await worker.execute(info["session_id"], "fetch('part.js', {method: 'PUT'}).then((a) => a.status)") == 403


async def test_frames_of_others_get_nothing(served: Hub, worker: BrowserWorker) -> None:
    """A page of another origin within the app's: neither what it knows, nor its files."""
    script = """
      window.told = new Promise((resolve) => window.onmessage = (event) => resolve(event.data));
      const frame = document.createElement("iframe");
      frame.src = `http://localhost:${location.port}/evil`;
      document.querySelector("p").append(frame);
    """
    evil = f"""<script>
      fetch("{served.url}/ws-user-ada/artifacts/app/files/index.html").then((a) => a.status, (error) => error.name)
        .then((read) => parent.postMessage([typeof window.__HYPHA__, read], "*"))
    </script>"""
    cors = {"Access-Control-Allow-Origin": "*"}
    served.pages["/evil"] = web.Response(text=evil, content_type="text/html", headers=cors)
    async with browser_worker(served, browser_private_hosts=("localhost",)) as own:
        info = await own.start(served.config(script=script))
        kind, read = await own.execute(info["session_id"], "window.told")
    assert kind == "undefined"
    assert read != 200


async def test_what_the_manifest_says_of_a_page(served: Hub, worker: BrowserWorker) -> None:
    served.files["ws-user-ada/app/start.js"] = "window.startup = document.title"
    manifest = {
        "cookies": {"flavour": "mint"},
        "local_storage": {"theme": "dark", "sizes": [1, 2]},
        "session_storage": {"tab": "first"},
        "extra_http_headers": {"X-Extra": "more"},
        "startup_script": "start.js",
    }
    info = await worker.start(served.config(manifest=manifest))
    assert served.requests[0].headers["X-Extra"] == "more"
    assert served.requests[0].cookies == {"flavour": "mint"}
    found = await worker.execute(
        info["session_id"],
        "[document.cookie, localStorage.theme, localStorage.sizes, sessionStorage.tab, window.startup,"
        " innerWidth, innerHeight]",
    )
    assert found == ["flavour=mint", "dark", "[1, 2]", "first", "app", 1280, 720]


async def test_two_sessions_share_nothing(served: Hub, worker: BrowserWorker) -> None:
    script = "localStorage.mine ??= document.title; document.cookie ||= `mine=${document.title}`"
    first, second = [await worker.start(served.config(app, script)) for app in ("one", "two")]
    for info, name in ((first, "one"), (second, "two")):
        assert await worker.execute(info["session_id"], "localStorage.mine + document.cookie") == f"{name}mine={name}"
    assert [info["app_id"] for info in await worker.list_sessions("ws-user-ada")] == ["one", "two"]
    assert await worker.list_sessions("ws-user-bob") == []


async def test_logs(served: Hub, worker: BrowserWorker) -> None:
    """What a page prints, what it and its workers throw; never its token."""
    script = """
      console.warn("careful", 1); console.log("mine is", window.__HYPHA__.token);
      new Worker(URL.createObjectURL(new Blob(["console.log('inside'); throw new Error('deep')"])));
      setTimeout(() => { throw new Error("late: " + window.__HYPHA__.token) });
    """
    info = await worker.start(served.config(script=script))

    async def logged() -> Any:
        items = (await worker.get_logs(info["session_id"]))["items"]
        return items if len(items) >= 5 else None

    items = await eventually(logged)
    console = [item["content"] for item in items if item["type"] == "console"]
    assert {"[warning] careful 1", "[log] mine is <token>", "[log] inside"} <= set(console)
    errors = await worker.get_logs(info["session_id"], type="error", limit=1)
    assert (errors["total"], errors["limit"], len(errors["items"])) == (2, 1, 1)
    everything = str(items)
    assert "late" in everything and "deep" in everything
    assert TOKEN not in everything


async def test_a_screenshot_shows_the_page(served: Hub, worker: BrowserWorker) -> None:
    script = "document.body.style.background = 'rgb(12, 200, 34)'; document.querySelector('p').remove()"
    info = await worker.start(served.config(script=script))
    image = await worker.take_screenshot(info["session_id"])
    assert image[:8] == b"\x89PNG\r\n\x1a\n"
    assert (int.from_bytes(image[16:20], "big"), int.from_bytes(image[20:24], "big")) == (1280, 720)
    read = """async (data) => {
      const image = await createImageBitmap(await (await fetch(`data:image/png;base64,${data}`)).blob());
      const context = new OffscreenCanvas(image.width, image.height).getContext("2d");
      context.drawImage(image, 0, 0);
      return [...context.getImageData(640, 360, 1, 1).data];
    }"""
    encoded = json.dumps(base64.b64encode(image).decode())
    assert await worker.execute(info["session_id"], f"({read})({encoded})") == [12, 200, 34, 255]
    assert (await worker.take_screenshot(info["session_id"], "jpeg"))[:3] == b"\xff\xd8\xff"
    with pytest.raises(BadRequest, match="png, jpeg"):
        await worker.take_screenshot(info["session_id"], "gif")


async def test_scripts_that_fail_say_why(served: Hub, worker: BrowserWorker) -> None:
    info = await worker.start(served.config())
    with pytest.raises(WorkerError, match=r"failed: .*too much"):
        await worker.execute(info["session_id"], "(() => { throw new Error('too much ' + window.__HYPHA__.token) })()")
    with pytest.raises(WorkerError, match=r"did not end within 0\.1 s"):
        await worker.execute(info["session_id"], "new Promise(() => {})", {"timeout": 0.1})
    with pytest.raises(SessionNotFoundError):
        await worker.execute("ws-user-ada/none", "1")


async def test_a_page_that_cannot_be_loaded(served: Hub, worker: BrowserWorker) -> None:
    config = served.config()
    with pytest.raises(WorkerError, match=r"gone\.html could not be loaded: status 404"):
        await worker.start({**config, "entry_point": "gone.html"})
    assert (await worker.get_session_info(config["id"]))["status"] == "failed"
    for entry in ("../../other/files/index.html", "file:///etc/passwd", "chrome://version", "", None, "https://"):
        manifest = {**config["manifest"], "entry_point": entry}
        with pytest.raises(BadRequest, match="entry_point"):
            await worker.start({**config, "entry_point": entry, "manifest": manifest})
    with pytest.raises(BadRequest, match="cannot have the id"):
        await worker.start({**config, "id": "ws-user-bob/_rapp_app__rlb"})
    assert await worker.list_sessions("ws-user-ada") == []
    info = await worker.start(config)  # the same session, once it can be
    assert info["status"] == "running"


async def test_a_page_somewhere_else(served: Hub, worker: BrowserWorker) -> None:
    """A web-app is opened as it is; it gets what it connects with where its manifest asks for that."""
    page = web.Response(text="<title>out there</title>", content_type="text/html")
    served.pages["/site"] = page
    config = served.config(manifest={"type": "web-app", "entry_point": f"{served.url}/site?x=1"})
    info = await worker.start(config)
    assert await worker.execute(info["session_id"], "[document.title, typeof __HYPHA__, location.search]") == [
        "out there", "undefined", "?x=1",
    ]  # fmt: skip
    await worker.stop(info["session_id"])
    manifest = {**config["manifest"], "inject_auth_params": True, "authorization_token": "Bearer own-one"}
    info = await worker.start({**config, "manifest": manifest})
    search = await worker.execute(info["session_id"], "location.search")
    assert re.match(r"\?x=1&server_url=http%3A%2F%2F127.0.0.1%3A\d+&client_id=", search)
    assert served.requests[-1].query["token"] == TOKEN
    assert served.requests[-1].headers["Authorization"] == "Bearer own-one"
