from __future__ import annotations

import re
import secrets
from dataclasses import dataclass

from .errors import BadRequest

__all__ = [
    "ANONYMOUS_WORKSPACE",
    "APP_CLIENT_PREFIX",
    "DEFAULT_SERVER_ID",
    "HTTP_CLIENT_PREFIX",
    "MANAGER_ADDRESS",
    "MANAGER_ID",
    "PUBLIC_WORKSPACE",
    "ROLE_CLIENTS",
    "ROLE_SENDER_PREFIX",
    "ROOT_WORKSPACE",
    "Address",
    "ServiceId",
    "check_client_id",
    "is_text",
    "new_id",
    "personal_workspace",
    "role_of",
]

PUBLIC_WORKSPACE = "public"
ROOT_WORKSPACE = "ws-user-root"
ANONYMOUS_WORKSPACE = "ws-anonymous"

# Constant for the life of the cluster: clients keep addressing the id they first saw (contract 01 §1.3).
MANAGER_ID = "manager-hypha"
MANAGER_ADDRESS = f"*/{MANAGER_ID}"

# What the manager tells as `server_id` unless one is configured; also the client in workspace `public` that runs
# startup functions (contract 01 §4.9).
DEFAULT_SERVER_ID = "hypha"

# Client ids that stand for a role instead of a connection, in workspace `public` and in root's own.
ROLE_CLIENTS = {
    "hypha-auth": "auth",
    "hypha-artifacts": "artifacts",
    "hypha-apps": "apps",
    "hypha-workspace": "workspace",
}
_ROLE_WORKSPACES = frozenset((PUBLIC_WORKSPACE, ROOT_WORKSPACE))

# What gateways call as for HTTP requests; answers come to that id, so no connection may have it.
HTTP_CLIENT_PREFIX = "client-http-"

# What a replica of a role calls as where it must be of the callee's workspace (`client-role-<role>-<instance>`);
# answers come to that id, too.
ROLE_SENDER_PREFIX = "client-role-"

# Client ids of apps that the apps service started; nobody else gets a token for one.
APP_CLIENT_PREFIX = "_rapp_"

MAX_ID_BYTES = 255

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_ALPHABET = "23456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"


def new_id(length: int = 22) -> str:
    """Return a random id of ``length`` characters from a 56-letter alphabet without look-alikes."""
    number = secrets.randbits(8 * length)  # one draw: far more bits than the letters take, so that none is favoured
    letters = []
    for _ in range(length):
        number, index = divmod(number, len(_ALPHABET))
        letters.append(_ALPHABET[index])
    return "".join(letters)


def personal_workspace(user_id: str) -> str:
    """Return the id of the workspace that belongs to a user."""
    return f"ws-user-{user_id}"


@dataclass(frozen=True, slots=True)
class Address:
    """Where a client is: ``workspace/client``. Workspace ``*`` holds only the workspace manager."""

    workspace: str
    client: str

    def __str__(self) -> str:
        return f"{self.workspace}/{self.client}"

    @classmethod
    def parse(cls, text: str, *, default_workspace: str | None = None) -> Address:
        """Parse ``ws/client`` or, with a default workspace, ``client``. Raises BadRequest."""
        workspace, slash, client = text.partition("/")
        if not slash:
            if default_workspace is None:
                raise BadRequest(f"Invalid address: {text}")
            workspace, client = default_workspace, text
        if not workspace or not client or "/" in client:
            raise BadRequest(f"Invalid address: {text}")
        return cls(workspace, client)


def role_of(workspace: str, client: str) -> str | None:
    """Return the role that answers at an address, or None where a connection does."""
    if workspace == "*":
        return "workspace" if client.startswith("manager-") else None
    return ROLE_CLIENTS.get(client) if workspace in _ROLE_WORKSPACES else None


def check_client_id(client_id: object) -> str:
    """Return a client id that a connection may take, or raise BadRequest (contract 01 §1.4 point 8)."""
    if not isinstance(client_id, str) or not client_id:
        raise BadRequest("A client id is required")
    too_long = len(client_id.encode("utf-8", "surrogatepass")) > MAX_ID_BYTES
    strange = any(c in client_id for c in "/*:@") or _CONTROL.search(client_id) or not is_text(client_id)
    if too_long or strange or client_id.startswith((HTTP_CLIENT_PREFIX, ROLE_SENDER_PREFIX)):
        shown = client_id if len(client_id) <= 64 else client_id[:64] + "…"
        raise BadRequest(f"Invalid client id: {shown}")
    return client_id


def is_text(text: str) -> bool:
    """Tell whether a string can be written as UTF-8; JSON lets clients send halves of characters."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class ServiceId:
    """A service query or id, completed: ``workspace/client:service@app``; ``*`` stands for any client or app."""

    workspace: str
    client: str
    service: str
    app: str = "*"

    def __str__(self) -> str:
        return f"{self.workspace}/{self.client}:{self.service}@{self.app}"

    @property
    def full(self) -> str:
        """The id without its application: ``workspace/client:service``."""
        return f"{self.workspace}/{self.client}:{self.service}"

    @classmethod
    def parse(cls, text: str, *, default_workspace: str) -> ServiceId:
        """
        Complete a short form (contract 01 §3.7): ``svc``, ``client:svc``, ``ws/svc``, ``…@app``.

        Raises BadRequest with rpc_type AssertionError where a separator occurs twice or a part is empty.

        """
        for separator in "/:@":
            if text.count(separator) > 1:
                raise BadRequest(f"Service id must contain at most one '{separator}'", rpc_type="AssertionError")
        rest, at, app = text.partition("@")
        workspace, slash, local = rest.rpartition("/")
        client, colon, service = local.rpartition(":")
        if not slash:
            workspace = default_workspace
        if not colon:
            client = "*"
        if not at:
            app = "*"
        if not (workspace and client and service and app):
            raise BadRequest(f"Invalid service id: {text}", rpc_type="AssertionError")
        return cls(workspace, client, service, app)
