from __future__ import annotations

import re
import time
from typing import Any

import pytest

from hypha_common.admission import Admission, ConnectRequest, admit, anonymous_principal, refusal
from hypha_common.errors import BadRequest, HyphaError, NotFound, PermissionDenied, QuotaExceeded, Unauthorized
from hypha_common.principal import Permission, Principal, Scope
from hypha_common.revocation import RevokedTokens
from hypha_common.tokens import TokenCodec, TokenKind, VerifiedToken
from hypha_common.verifier import RootToken, TokenVerifier

FAILED = "Failed to establish connection: Failed to authenticate user: "
ROOT = "kR7pQ2vX9mB4nZ6tC1wY8sD5fG3hJ0lU"
CODEC = TokenCodec("a secret of at least thirty-two bytes")
REVOKED = RevokedTokens()
VERIFIER = TokenVerifier(CODEC, REVOKED)


async def verify(token: str, kind: TokenKind) -> VerifiedToken:
    return RootToken(ROOT).verify(token) or VERIFIER.verify(token, kind)


def token(**scope: Any) -> str:
    grants = scope.pop("workspaces", {"ws-a": Permission.READ_WRITE})
    return CODEC.sign(Principal(id="alice", scope=Scope(grants, **scope)), life_s=60)


def reconnection(workspace: str = "ws-a", client_id: str = "c1", life_s: float = 60, **changes: Any) -> str:
    grants = changes.pop("workspaces", {"ws-a": Permission.READ_WRITE})
    principal = Principal(id="alice", scope=Scope(grants))
    return CODEC.reconnection_token(principal, workspace, client_id, 3, life_s, origins=["t0"])


async def enter(**message: Any) -> Admission:
    return await admit(ConnectRequest.parse({"client_id": "c1", **message}), verify)


async def turned_away(**message: Any) -> tuple[int, str]:
    with pytest.raises(HyphaError) as caught:
        await enter(**message)
    found = refusal(caught.value)
    return found.code, found.reason


async def test_anonymous() -> None:
    """Nobody in particular gets a name, and a workspace of its own."""
    admission = await enter(workspace=None, token=None, reconnection_token=None)
    user = admission.principal
    assert re.fullmatch(r"anonymouz-[a-z]+-[a-z]+-\d{8}", user.id)
    assert admission.workspace == f"ws-user-{user.id}"
    assert (user.roles, user.is_anonymous, user.email) == (("anonymous",), True, None)
    assert user.scope.workspaces == {admission.workspace: Permission.ADMIN}
    assert user.expires_at == pytest.approx(time.time() + 600, abs=5)
    assert not admission.reconnect


async def test_anonymous_dump() -> None:
    """What clients see of it is the UserInfo of contract 01 §10.1."""
    dump = anonymous_principal().dump()
    assert (dump["parent"], dump["current_workspace"], dump["scope"]["extra_scopes"]) == (None, None, None)


async def test_anonymous_in_a_workspace() -> None:
    """The wish is handed on; the workspace service then finds no permission."""
    assert (await enter(workspace="ws-x")).workspace == "ws-x"


async def test_empty_fields_are_absent() -> None:
    assert (await enter(workspace="", token="", reconnection_token="")).principal.is_anonymous


async def test_token_without_a_wish() -> None:
    """A bound token leads to its workspace, another one home."""
    assert (await enter(token=token(current_workspace="ws-a"))).workspace == "ws-a"
    admission = await enter(token=token())
    assert admission.workspace == "ws-user-alice"
    assert admission.origins == (admission.token_id,)


async def test_token_with_a_wish() -> None:
    assert (await enter(token=token(), workspace="ws-b")).workspace == "ws-b"
    assert (await enter(token=token(current_workspace="ws-a"), workspace="ws-a")).workspace == "ws-a"


async def test_public_is_replaced() -> None:
    """Whoever asks for public without being bound to it lands elsewhere (contract 01 §1.4 step 4)."""
    assert (await enter(token=token(), workspace="public")).workspace == "ws-user-alice"
    assert (await enter(token=token(current_workspace="ws-a"), workspace="public")).workspace == "ws-a"
    bound = token(workspaces={"public": Permission.READ}, current_workspace="public")
    assert (await enter(token=bound, workspace="public")).workspace == "public"


async def test_bound_to_another_workspace() -> None:
    assert await turned_away(token=token(current_workspace="ws-a"), workspace="ws-b") == (
        1001,
        f"{FAILED}Current workspace encoded in the token (ws-a) does not match the specified workspace (ws-b)",
    )


async def test_bound_to_another_client() -> None:
    assert await turned_away(token=token(client_id="x")) == (
        1001,
        f"{FAILED}Client id mismatch: this token is restricted to client with client_id='x'",
    )
    assert (await enter(token=token(client_id="c1"))).client_id == "c1"


async def test_specialized_token() -> None:
    code, reason = await turned_away(token=token(extra_scopes=("file:download",)))
    assert code == 1001
    assert reason.startswith(
        "Failed to establish connection: Failed to authenticate user: Specialized token with scopes ['file:download']"
        " cannot be used for general workspace access."
    )


async def test_root() -> None:
    """Root is at home in its own workspace and is refused elsewhere (contract 01 §4.4)."""
    admission = await enter(token=ROOT)
    assert (admission.principal.id, admission.workspace) == ("root", "ws-user-root")
    assert (await turned_away(token=ROOT, workspace="ws-a"))[0] == 1001


async def test_reconnection() -> None:
    """The reconnection token wins over the token, and carries on what it descends from."""
    admission = await enter(token="rubbish", reconnection_token=reconnection())
    assert admission.reconnect
    assert (admission.workspace, admission.client_id, admission.generation) == ("ws-a", "c1", 3)
    assert admission.origins == ("t0",)
    assert (await enter(workspace="ws-a", reconnection_token=reconnection())).workspace == "ws-a"


async def test_reconnection_as_another_client() -> None:
    assert await turned_away(client_id="c2", reconnection_token=reconnection()) == (
        1001,
        f"{FAILED}Client id mismatch, disconnecting",
    )


async def test_reconnection_to_another_workspace() -> None:
    assert await turned_away(workspace="ws-b", reconnection_token=reconnection()) == (
        1001,
        f"{FAILED}Invalid scope, workspace mismatch: ws-a != ws-b",
    )


async def test_reconnection_without_permission() -> None:
    assert await turned_away(reconnection_token=reconnection(workspaces={})) == (
        1001,
        "Failed to establish connection: Permission denied for workspace: ws-a",
    )


async def test_expired_reconnection_token() -> None:
    """Back after days, a client starts afresh with its token; without one it is told."""
    expired = reconnection(life_s=1)
    time.sleep(1.1)
    admission = await enter(token=token(), reconnection_token=expired)
    assert not admission.reconnect
    assert await turned_away(reconnection_token=expired) == (
        1008,
        "Authentication error: The token has expired. Please fetch a new one",
    )


async def test_kinds_are_not_exchangeable() -> None:
    """Each field of the first message takes its own kind of token."""
    assert (await turned_away(token=reconnection()))[0] == 1008
    bound = token(current_workspace="ws-a", client_id="c1")
    assert (await turned_away(reconnection_token=bound))[0] == 1008


@pytest.mark.parametrize("field", ["token", "reconnection_token"])
async def test_bad_tokens(field: str) -> None:
    assert await turned_away(**{field: "abc"}) == (1008, "Authentication error: Error decoding token headers.")
    forged = TokenCodec("another secret of thirty-two bytes").sign(Principal(id="alice"), life_s=60)
    assert await turned_away(**{field: forged}) == (1008, "Authentication error: Signature verification failed.")


async def test_revoked_token() -> None:
    bad = token()
    REVOKED.add([(CODEC.verify(bad).token_id, time.time() + 60)])
    assert await turned_away(token=bad) == (
        1001,
        f"{FAILED}Token has been revoked",
    )


async def test_client_ids() -> None:
    assert await turned_away(client_id=None, workspace="ws-x") == (
        1001,
        "Failed to establish connection: Failed to authenticate user to workspace: ws-x",
    )
    assert await turned_away(client_id="a/b") == (1001, "Failed to establish connection: Invalid client id: a/b")
    for bad in (5, ["a"], "a*", "a:b", "a@b", "a\n", "x" * 256):
        code, reason = await turned_away(client_id=bad)
        assert code == 1001
        assert reason.startswith("Failed to establish connection: Invalid client id: ")


@pytest.mark.parametrize("workspace", ["*", "a/b", "a\x00b", "x" * 300, "\ud800"])
async def test_impossible_workspaces(workspace: str) -> None:
    """A name that no workspace can have does not become a subject; the manager's own place is not joined."""
    admin = CODEC.sign(Principal(id="admin", roles=("admin",)), life_s=60)
    code, reason = await turned_away(token=admin, workspace=workspace)
    assert code == 1001
    assert "does not exist or is not accessible" in reason


@pytest.mark.parametrize("message", [{"token": 5}, {"workspace": []}, {"reconnection_token": {}}])
def test_fields_of_a_wrong_type(message: dict[str, Any]) -> None:
    with pytest.raises(BadRequest):
        ConnectRequest.parse(message)


@pytest.mark.parametrize(
    ("error", "code", "reason"),
    [
        (
            NotFound("Workspace X does not exist or is not accessible"),
            1001,
            "Failed to establish connection: 'Workspace X does not exist or is not accessible'",
        ),
        (PermissionDenied("Permission denied for workspace: X"), 1001, "Failed to establish connection: "),
        (Unauthorized("The token has expired. Please fetch a new one"), 1008, "Authentication error: The token"),
        (QuotaExceeded("Connection limit exceeded: …"), 1008, "Connection limit exceeded: …"),
        (BadRequest("Client already exists and is active: W/C"), 1001, "Failed to establish connection: Client"),
    ],
)
def test_refusals(error: HyphaError, code: int, reason: str) -> None:
    """The words of contract 01 §1.5."""
    found = refusal(error)
    assert found.code == code
    assert found.reason.startswith(reason)
