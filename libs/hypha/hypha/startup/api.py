from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from hypha_rpc.utils import ObjectProxy

from hypha.core import UserInfo
from hypha_common.custom_auth import checked_user
from hypha_common.principal import Principal, root_principal

if TYPE_CHECKING:
    from .connecting import Connecting
    from .custom_auth import AuthFunctions

__all__ = ["StartupServer"]


class NoStoreError(AttributeError):
    """There is no store in the process of a startup function; says what to use instead."""


class StartupServer(ObjectProxy):  # type: ignore[misc]  # it ships no types
    """
    The ``server`` of startup functions: a client's API in workspace ``public``, as root, and more beside it.

    Everything is reached as an attribute and as an item.

    """

    @classmethod
    def of(cls, client: Mapping[str, Any], connecting: Connecting, auth: AuthFunctions) -> StartupServer:
        """Extend the API of a connected client."""

        def get_root_user() -> UserInfo:
            """Return the user that startup functions act as."""
            return UserInfo.of(root_principal())

        def get_workspace_interface(user_info: Any, workspace: str, client_id: str | None = None) -> Any:
            """
            Connect to a workspace as a user: to be awaited, or used with ``async with``, which also disconnects.

            What the user may do there is decided as for anybody else.

            """
            principal = _principal(user_info)
            bound = replace(principal, scope=replace(principal.scope, client_id=client_id))
            return connecting.client(bound, workspace, client_id)

        return cls(
            client,
            get_root_user=get_root_user,
            get_workspace_interface=get_workspace_interface,
            register_auth_service=auth.register_auth_service,
            set_parse_token_function=auth.setter("parse_token"),
            set_generate_token_function=auth.setter("generate_token"),
            set_get_token_function=auth.setter("get_token"),
        )

    def __missing__(self, name: str) -> Any:
        if name == "store":
            raise NoStoreError(
                "server['store'] does not exist: startup functions run in a process of their own. Use the methods of "
                "`server` (register_service, list_services, …), server.get_workspace_interface(user_info, workspace) "
                "to act in another workspace, and server.register_auth_service(…) for authentication"
            )
        raise KeyError(name)


def _principal(user_info: Any) -> Principal:
    user = UserInfo.dump_of(user_info)
    return root_principal() if user["id"] == "root" else checked_user(user)
