from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hypha_common.errors import BadRequest

if TYPE_CHECKING:
    from hypha_apps.app import App
    from hypha_common.principal import Principal

__all__ = ["CHECK_INTERVAL_S", "StartOptions", "StartRequest"]

DEFAULT_TIMEOUT_S = 60.0
MAX_TIMEOUT_S = 3600.0
DEFAULT_STOP_AFTER_INACTIVE_S = 600.0
# What says which session of whom it is, and where it connects.
_OURS = frozenset({
    "id", "app_id", "workspace", "client_id", "token", "user", "server_url", "public_base_url", "local_base_url",
    "artifact_id", "app_files_base_url", "progress_callback",
})  # fmt: skip
CHECK_INTERVAL_S = 10.0  # an app cannot be stopped sooner than somebody looks (contract 03 §1.6)


@dataclass(frozen=True, slots=True)
class StartRequest:
    """Who asks for what; None: what the manifest says, else the default."""

    user: Principal  # who the instance runs as
    version: str | None = None  # that was asked for: an instance of another one will not do
    timeout: float | None = None  # seconds
    wait_for_service: str | bool | None = None
    stop_after_inactive: float | None = None  # seconds; 0: never
    additional_kwargs: Mapping[str, Any] | None = None
    worker_id: str | None = None
    worker_selection_mode: str | None = None
    progress: Callable[..., Any] | None = None
    lazy: bool = False  # somebody looked a service up: any instance will do, of whatever kind the app is


@dataclass(frozen=True, slots=True)
class StartOptions:
    """How an app is started: the request, completed by the manifest's ``startup_config``."""

    timeout_s: float
    wait_for: str | None  # the service that makes it running; "": its client; None: nothing
    stop_after_inactive: float  # seconds; 0: never
    daemon: bool
    singleton: bool
    worker_managed: bool
    autoscaled: bool
    additional: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, app: App, request: StartRequest, *, check_interval_s: float = CHECK_INTERVAL_S) -> StartOptions:
        """Complete a request; somebody looks for activity every ``check_interval_s``. Raises BadRequest."""
        manifest = app.manifest
        config = _mapping("startup_config", manifest.get("startup_config"))
        daemon = bool(manifest.get("daemon"))
        inactive = _first(request.stop_after_inactive, config.get("stop_after_inactive"))
        stop_after_inactive = check_inactive(inactive, check_interval_s)
        if daemon and inactive:
            raise BadRequest("Daemon apps should not have stop_after_inactive set")
        autoscaling = manifest.get("autoscaling")
        return cls(
            timeout_s=_seconds("timeout", _first(request.timeout, config.get("timeout")), DEFAULT_TIMEOUT_S),
            wait_for=_service(_first(request.wait_for_service, config.get("wait_for_service"))),
            stop_after_inactive=0.0 if daemon else stop_after_inactive,
            daemon=daemon,
            singleton=bool(manifest.get("singleton")),
            worker_managed=bool(manifest.get("worker_managed")),
            autoscaled=isinstance(autoscaling, Mapping) and bool(autoscaling.get("enabled")),
            additional={**_additional(config.get("additional_kwargs")), **_additional(request.additional_kwargs)},
        )

    @property
    def exclusive(self) -> bool:
        """Tell whether a start gives way to an instance that there is (contract 03 §1.6 "reuse rule")."""
        return self.singleton or not (self.daemon or self.autoscaled)


def check_inactive(value: object, check_interval_s: float = CHECK_INTERVAL_S) -> float:
    """Return the seconds after which an app that nobody uses is stopped; None is the default. Raises BadRequest."""
    if value is None:
        return DEFAULT_STOP_AFTER_INACTIVE_S
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < float("inf"):
        raise BadRequest("stop_after_inactive must be a number of seconds, 0 for never")
    if 0 < value < check_interval_s:
        raise BadRequest(f"stop_after_inactive must be 0 or at least {check_interval_s:g} seconds")
    return float(value)


def _mapping(name: str, value: object) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise BadRequest(f"{name} must be a map of names to values")
    return value


def _additional(value: object) -> Mapping[str, Any]:
    additional = _mapping("additional_kwargs", value)
    if refused := sorted(_OURS & set(additional)):
        raise BadRequest(f"additional_kwargs must not have: {', '.join(refused)}")
    return additional


def _seconds(name: str, value: object, default: float) -> float:
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < float("inf"):
        raise BadRequest(f"{name} must be a number of seconds greater than 0")
    return min(float(value), MAX_TIMEOUT_S)


def _service(value: object) -> str | None:
    if value is None or value is True:
        return "default"
    if value is False:
        return None
    if not isinstance(value, str):
        raise BadRequest("wait_for_service must be the name of a service, or False")
    return value.rpartition(":")[2].partition("@")[0]


def _first(*values: Any) -> Any:
    return next((value for value in values if value is not None), None)
