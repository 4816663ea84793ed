from __future__ import annotations

import argparse

import pytest

from hypha.workers.command_line import Place, add_place_flags
from hypha.workers.errors import WorkerError


def place(*flags: str, **environ: str) -> Place:
    parser = argparse.ArgumentParser()
    add_place_flags(parser)
    return Place.of(parser.parse_args(flags), environ)


def test_flags_come_before_the_environment() -> None:
    found = place("--server-url=http://a/", "--disable-ssl", HYPHA_SERVER_URL="http://b", HYPHA_TOKEN="t")
    assert (found.server_url, found.token, found.disable_ssl, found.visibility) == ("http://a", "t", True, "protected")
    assert found.connection() == {"server_url": "http://a", "token": "t", "ssl": False}
    from_environment = place(
        HYPHA_SERVER_URL="https://b", HYPHA_WORKSPACE="ws", HYPHA_CLIENT_ID="c", HYPHA_SERVICE_ID="s",
        HYPHA_VISIBILITY="public", HYPHA_VERBOSE="true", HYPHA_DISABLE_SSL="0",
    )  # fmt: skip
    assert from_environment.connection() == {"server_url": "https://b", "workspace": "ws", "client_id": "c"}
    assert (from_environment.service_id, from_environment.visibility) == ("s", "public")
    assert (from_environment.verbose, from_environment.disable_ssl) == (True, False)


def test_what_cannot_be_is_refused_with_a_sentence() -> None:
    with pytest.raises(WorkerError, match="--server-url or HYPHA_SERVER_URL"):
        place()
    with pytest.raises(WorkerError, match="--visibility must be one of protected, public"):
        place("--server-url=http://a", "--visibility=secret")
