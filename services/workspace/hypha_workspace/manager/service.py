from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypha_common.principal import Permission
from hypha_common.rpc.caller import Caller
from hypha_common.rpc.service import Service, rpc_method
from hypha_common.version import __version__

from .access import Access, authorize
from .backend import Backend
from .bookmarks import BookmarkMethods
from .clients import ClientMethods
from .environment import EnvironmentMethods
from .event_log import EventLogMethods
from .lookup import LookupMethods
from .registration import RegistrationMethods
from .service_types import ServiceTypeMethods
from .subscriptions import SubscriptionMethods
from .tokens import TokenMethods
from .workspaces import WorkspaceMethods

if TYPE_CHECKING:
    from hypha_common.bus import Bus
    from hypha_common.settings import Settings
    from hypha_workspace.events import Events
    from hypha_workspace.lifetime import Lifetime
    from hypha_workspace.registry.applications import Applications
    from hypha_workspace.registry.resolver import Resolver
    from hypha_workspace.stores import Stores

    from .providers import Providers

__all__ = ["create_manager"]


class EchoMethods:
    """For trying out a connection."""

    @rpc_method
    async def echo(self, data: Any, *, context: Caller) -> Any:
        """
        Return what you send.

        Args:
            data: Any value.

        """
        authorize(context.principal, Permission.READ_WRITE, context.workspace)
        return data


def create_manager(
    *,
    stores: Stores,
    resolver: Resolver,
    applications: Applications,
    lifetime: Lifetime,
    events: Events,
    providers: Providers,
    bus: Bus,
    settings: Settings,
) -> Service:
    """Return the workspace manager: the service ``default`` at ``*/manager-…`` (contract 01 §3)."""
    backend = Backend(
        stores=stores,
        resolver=resolver,
        applications=applications,
        lifetime=lifetime,
        events=events,
        providers=providers,
        access=Access(stores.workspaces),
        bus=bus,
        settings=settings,
    )
    lookup = LookupMethods(backend)
    manager = Service.of(
        "default",
        EchoMethods(),
        WorkspaceMethods(backend),
        RegistrationMethods(backend),
        lookup,
        ClientMethods(backend),
        TokenMethods(backend),
        SubscriptionMethods(backend),
        EnvironmentMethods(backend),
        BookmarkMethods(backend),
        ServiceTypeMethods(backend),
        EventLogMethods(backend),
        name="Default workspace management services",
        description="Services for managing the workspace: registering, finding and calling services.",
        visibility="public",
        config=_server_info(settings),
    )
    lookup.manager = manager
    return manager


def _server_info(settings: Settings) -> dict[str, Any]:
    """Return what clients find in ``server.config``; it must be the same at every replica."""
    base_url = settings.public_base_url
    return {
        "require_context": True,
        "server_id": settings.startup_client,
        "hypha_version": __version__,
        "public_base_url": base_url,
        "local_base_url": settings.local_base_url,
        "auth0_client_id": settings.auth0_client_id,
        "auth0_domain": settings.auth0_domain,
        "auth0_audience": settings.auth0_audience,
        "auth0_issuer": settings.auth0_issuer,
        "login_service_url": f"{base_url}/public/services/hypha-login/",
    }
