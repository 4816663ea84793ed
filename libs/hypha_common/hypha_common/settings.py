from __future__ import annotations

import dataclasses
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from . import settings_checks as checks
from .errors import ConfigurationError
from .ids import DEFAULT_SERVER_ID
from .options import Option, OptionValue, nearest, option, options_of
from .placement import NamedDatabase, default_name, partition_range, placement
from .subjects import PARTITIONS

__all__ = ["OPTIONS", "Partitions", "Settings", "unknown_environment"]

_GATEWAY = ("gateway", "server")
_AUTH = ("auth", "server")
_WORKSPACE = ("workspace", "server")
_STORES = ("apps", "artifacts", "auth", "workspace", "server")
_STATUS = ("apps", "artifacts", "auth", "browser-worker", "startup", "workspace", "server")
_ON_THE_BUS = ("apps", "artifacts", "auth", "gateway", "workspace", "server")
_FILES = ("artifacts", "server")
_APPS = ("apps", "server")
_BROWSER = ("browser-worker", "server")
_STARTUP = ("startup", "server")
_SERVER = ("server",)

# Kubernetes sets HYPHA_PORT=tcp://10.0.0.1:9527 in every pod where a Service named `hypha` exists.
_SERVICE_LINK = re.compile(r"(tcp|udp|sctp)://[\d.]+:\d+")
# Names of the same prefix that belong to somebody else: clients (contract 01 §6) and server apps.
_FOREIGN_ENVIRONMENT = {"HYPHA_SERVER_URL", "HYPHA_TOKEN", "HYPHA_CLIENT_ID", "HYPHA_WORKSPACE", "HYPHA_APP_ID"}
_CONFIG_FILE = "HYPHA_CONFIG"


@dataclass(frozen=True)
class Partitions:
    """A run of workspace partitions and the database that holds it."""

    first: int
    last: int
    url: str


@dataclass(frozen=True)
class Settings:
    """
    Everything that can be configured, for every role: one table, whose rows are the fields below.

    Make one with :meth:`load`. A value comes from a flag, else the environment, else the file, else its default.

    """

    # Where it listens, and how it is reached.
    host: str = option("127.0.0.1", "address that the gateway listens at", roles=_GATEWAY)
    port: int = option(9527, "port that the gateway listens at; 0 takes a free one", roles=_GATEWAY, check=checks.port)
    listen_fds: str = option(
        "", "bound sockets to listen at in place of host and port: inherited descriptors", roles=("gateway",),
        check=checks.descriptors,
    )  # fmt: skip
    base_path: str = option("/", "prefix of every path", roles=_GATEWAY, check=checks.base_path)
    public_base_url: str = option(
        "",
        "address that clients use, the same at every replica; default http://127.0.0.1:<port><base path>",
        check=checks.http_url,
    )
    allow_origins: tuple[str, ...] = option(
        ("*",), "origins that browsers may call from", roles=_GATEWAY, environment=("ALLOW_ORIGINS",)
    )
    metrics_host: str = option("127.0.0.1", "address of the metrics port", roles=_STATUS)
    metrics_port: int = option(
        0, "port for metrics and health of a role without HTTP; 0: none", roles=_STATUS, check=checks.port
    )

    # What it depends on.
    nats_url: str = option("", "NATS servers, separated by commas", address=True, check=checks.nats_url)
    nats_user: str = option("", "user at NATS")
    nats_password: str = option("", "password at NATS", secret=True)
    nats_token: str = option("", "token at NATS, instead of user and password", secret=True)
    database_url: str = option(
        "",
        "PostgreSQL database",
        address=True,
        roles=_STORES,
        environment=("HYPHA_DATABASE_URI",),
        check=checks.database_url,
    )
    database_partitions: str = option(
        "",
        "databases by workspace partition: [name:]0-31=url,[name:]32-63=url …; default: all in database_url",
        address=True,
        check=checks.database_partitions,
    )
    serve_partitions: str = option(
        "", "workspace partitions that this replica serves, such as 0-31; empty: all",
        roles=("apps", "artifacts", "workspace"), check=checks.serve_partitions,
    )  # fmt: skip
    database_pool_size: int = option(8, "connections to each database", roles=_STORES, minimum=1)

    # Who may do what.
    jwt_secret: str = option(
        "", "key that signs the cluster's tokens", secret=True, environment=("JWT_SECRET",), check=checks.jwt_secret
    )
    jwt_previous_secrets: tuple[str, ...] = option(
        (),
        "keys that signed tokens before jwt_secret was changed: their tokens stay good",
        secret=True,
        check=checks.jwt_secrets,
    )
    # `python -m hypha.server --root-token …` is what existing deployments run (contract 01 §6).
    root_token: str = option(
        "", "token that is root; empty: none", secret=True, exposed=True, roles=_AUTH, check=checks.root_token
    )
    reconnection_token_life_time: float = option(
        172800.0, "seconds that a reconnection token lives", minimum=1, environment=("RECONNECTION_TOKEN_LIFE_TIME",)
    )
    maximum_login_time: float = option(
        180.0, "seconds that a login may take", roles=_AUTH, minimum=1, environment=("MAXIMUM_LOGIN_TIME",)
    )
    auth0_client_id: str = option(
        "paEagfNXPBVw8Ss80U5RAmAV4pjCPsD2", "client id at the identity provider", environment=("AUTH0_CLIENT_ID",)
    )
    auth0_domain: str = option("amun-ai.eu.auth0.com", "identity provider", environment=("AUTH0_DOMAIN",))
    auth0_audience: str = option(
        "https://amun-ai.eu.auth0.com/api/v2/", "audience of tokens", environment=("AUTH0_AUDIENCE",)
    )
    auth0_issuer: str = option("https://amun.ai/", "issuer of the cluster's tokens", environment=("AUTH0_ISSUER",))
    auth0_namespace: str = option(
        "https://amun.ai/", "prefix of the claims roles, email and parent", environment=("AUTH0_NAMESPACE",)
    )
    oidc_issuer: str = option(
        "", "OpenID Connect provider where people log in, such as https://accounts.example.org", roles=_AUTH,
        check=checks.issuer_url,
    )  # fmt: skip
    oidc_client_id: str = option("", "client id of this hub at that provider", roles=_AUTH)
    oidc_client_secret: str = option("", "client secret, for a confidential client", secret=True, roles=_AUTH)
    oidc_scope: str = option("openid profile email", "what is asked of the provider", roles=_AUTH)
    oidc_audience: str = option("", "audience of the provider's access tokens, where they are accepted", roles=_AUTH)
    oidc_name: str = option("", "name of the provider on the login page", roles=_AUTH)
    enable_local_auth: bool = option(
        False, "accounts on this server, also where an identity provider is configured", roles=_AUTH
    )
    disable_local_auth: bool = option(False, "no accounts on this server, whatever else is configured", roles=_AUTH)
    resend_api_key: str = option(
        "", "key of the mail service Resend, for verification mails", secret=True, roles=_AUTH,
        environment=("RESEND_API_KEY",),
    )  # fmt: skip
    smtp_url: str = option(
        "", "mail server for verification mails: smtp://user:password@host:587", address=True, roles=_AUTH
    )
    verification_from_email: str = option("", "sender of verification mails", roles=_AUTH)
    verification_code_ttl: float = option(600.0, "seconds that a verification code is good", roles=_AUTH, minimum=1)
    verification_max_attempts: int = option(5, "wrong codes until a new one is needed", roles=_AUTH, minimum=1)
    verification_resend_throttle: float = option(30.0, "seconds between two verification mails", roles=_AUTH, minimum=0)
    verification_max_pending: int = option(10_000, "accounts that wait for verification", roles=_AUTH, minimum=1)
    audit_retention: float = option(90 * 86400.0, "seconds that security events are kept", roles=_AUTH, minimum=60)
    expose_detailed_errors: bool = option(False, "answer HTTP callers with whole tracebacks", roles=_GATEWAY)

    # Limits (contract 01 §1.10).
    max_message_bytes: int = option(16 * 2**20, "largest frame a client may send", roles=_GATEWAY, minimum=1024)
    max_queue_bytes: int = option(
        64 * 2**20, "bytes waiting for one connection before it is cut off", roles=_GATEWAY, minimum=1024
    )
    ws_msg_rate_limit: float = option(200.0, "frames a second of one connection", roles=_GATEWAY, minimum=1)
    ws_msg_burst_limit: float = option(2000.0, "frames at once of one connection", roles=_GATEWAY, minimum=1)
    ws_idle_timeout: float = option(600.0, "seconds without a frame until a connection ends", roles=_GATEWAY, minimum=0)
    stream_keepalive_interval: float = option(
        10.0, "seconds of silence after which an HTTP stream is sent a ping", roles=_GATEWAY, minimum=0.1
    )  # clients give a stream up that is silent for their method timeout, 30 s by default
    stream_idle_threshold: float = option(
        60.0, "seconds without a POST until the client of an HTTP stream is asked for a sign of life", roles=_GATEWAY,
        minimum=0.1,
    )  # fmt: skip
    stream_ping_interval: float = option(
        30.0, "seconds that it has to answer, and between one such question and the next", roles=_GATEWAY, minimum=0.1
    )
    stream_max_missed_pings: int = option(
        3, "unanswered questions after which an HTTP stream ends", roles=_GATEWAY, minimum=1
    )
    max_concurrent_connections: int = option(
        50, "handshakes at the same time; more only wait longer at the workspace service", roles=_GATEWAY, minimum=1
    )
    max_handshake_wait: float = option(
        30.0, "seconds that a connection waits for its turn when there are too many", roles=_GATEWAY, minimum=0
    )
    max_connections_per_user: int = option(200, "connections of one user", minimum=1)
    max_clients_per_workspace: int = option(1000, "clients in one workspace", minimum=1)
    max_services_per_client: int = option(1000, "services of one client", roles=_WORKSPACE, minimum=1)
    max_workspaces_per_user: int = option(100, "workspaces owned by one user", roles=_WORKSPACE, minimum=1)
    http_rate_limit: float = option(100.0, "HTTP requests a second of one address", roles=_GATEWAY, minimum=1)
    http_burst_limit: float = option(500.0, "HTTP requests at once of one address", roles=_GATEWAY, minimum=1)
    http_authenticated_rate_limit: float = option(1000.0, "the same for a token", roles=_GATEWAY, minimum=1)
    http_authenticated_burst_limit: float = option(5000.0, "the same for a token", roles=_GATEWAY, minimum=1)
    http_body_timeout: float = option(
        20.0,
        "seconds that the body of an HTTP request may take, besides one for each 8 KiB",
        roles=_GATEWAY,
        minimum=0.1,
    )
    workspace_unload_grace_period: float = option(
        60.0, "seconds that an empty workspace stays", roles=_WORKSPACE, minimum=0
    )
    event_log_retention: float = option(
        90 * 86400.0, "seconds that what users log in workspaces is kept", roles=_WORKSPACE, minimum=60
    )
    drain_window: float = option(5.0, "seconds over which a stopping gateway closes sockets", roles=_GATEWAY, minimum=0)

    # Where files are kept: any S3 store.
    enable_s3: bool = option(False, "keep files in the store that endpoint_url names", roles=_SERVER)
    disable_s3: bool = option(False, "no artifacts and no files: no store is started", roles=_SERVER)
    endpoint_url: str = option("", "S3 store, as this cluster reaches it", roles=_FILES, check=checks.http_url)
    endpoint_url_public: str = option(
        "", "S3 store, as clients reach it; default endpoint_url", roles=_FILES, check=checks.http_url
    )
    access_key_id: str = option("", "key id at the S3 store", roles=_FILES, check=checks.access_key)
    secret_access_key: str = option("", "secret key at the S3 store", secret=True, exposed=True, roles=_FILES)
    region_name: str = option("EU", "region of the S3 store", roles=_FILES)
    workspace_bucket: str = option(
        "hypha-workspaces", "bucket that holds the files; made where missing", roles=_FILES, check=checks.bucket
    )
    enable_s3_proxy: bool = option(
        False, "give clients addresses of this server (/s3) in place of the store's own", roles=_FILES
    )
    s3_admin_type: str = option(
        "generic", "kind of S3 store; credentials for workspaces are made by this server, whichever it is",
        roles=_FILES, choices=("generic", "minio"),
    )  # fmt: skip
    s3_cleanup_period: float = option(300.0, "seconds between two sweeps of the store", roles=_FILES, minimum=0.1)
    s3_grace_period: float = option(
        3600.0, "seconds that bytes stay which nothing refers to any more", roles=_FILES, minimum=0
    )
    enable_s3_for_anonymous_users: bool = option(
        False, "anonymous users may write files in their temporary workspaces", roles=_FILES
    )
    max_file_bytes: int = option(
        5 * 2**40, "largest file; 5 TiB is what S3 stores take at most", roles=_FILES, minimum=1
    )
    artifacts_host: str = option("127.0.0.1", "address where the artifacts service hands out archives", roles=_FILES)
    artifacts_port: int = option(
        0, "port where the artifacts service hands out archives; 0 takes a free one", roles=_FILES, check=checks.port
    )
    artifacts_url: str = option(
        "", "how gateways reach that port; default http://<artifacts_host>:<port>", roles=_FILES, check=checks.http_url
    )

    # Apps that run on this server.
    enable_server_apps: bool = option(
        False, "apps that run on this server: starts the apps service and browser workers", roles=_SERVER
    )
    activity_check_interval: float = option(
        10.0, "seconds between two looks for apps that nobody uses", roles=_APPS, minimum=0.1,
        environment=("ACTIVITY_CHECK_INTERVAL",),
    )  # fmt: skip
    max_apps_per_workspace: int = option(100, "apps that run at the same time in one workspace", roles=_APPS, minimum=1)
    worker_grace_period: float = option(
        5.0, "seconds that a worker may be away until the apps that it runs count as ended", roles=_APPS, minimum=0
    )
    browser_executable: str = option(
        "", "Chromium that apps run in; default: one on the path, else the one that Playwright installed",
        roles=_BROWSER,
    )  # fmt: skip
    max_browser_sessions: int = option(20, "apps at the same time in one browser worker", roles=_BROWSER, minimum=1)
    max_browser_memory: int = option(
        4096, "MiB that a browser may take; beyond it is replaced as soon as no app runs in it", roles=_BROWSER,
        minimum=256,
    )  # fmt: skip
    browser_private_hosts: tuple[str, ...] = option(
        (), "hosts in private networks that apps in browsers may reach: name, name:port …; * for all", roles=_BROWSER,
    )  # fmt: skip
    in_docker: bool = option(
        False, "apps run in a browser without its own sandbox, as containers need it that allow no user namespaces",
        roles=_BROWSER,
    )  # fmt: skip
    pyodide_url: str = option(
        "", "folder with pyodide.js and its packages, for web-python apps; default: its public distribution",
        roles=_BROWSER, check=checks.http_place,
    )  # fmt: skip

    # What it tells.
    log_level: str = option(
        "WARNING",
        "least level that is logged",
        environment=("HYPHA_LOGLEVEL",),
        choices=("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"),
    )
    log_format: str = option("auto", "auto: console at a terminal, else json", choices=("auto", "console", "json"))
    otlp_endpoint: str = option(
        "",
        "OpenTelemetry collector that traces are sent to by OTLP/HTTP, without /v1/traces; empty: none",
        roles=_ON_THE_BUS,
        environment=("OTEL_EXPORTER_OTLP_ENDPOINT",),
        check=checks.http_url,
    )
    trace_sample_ratio: float = option(
        0.1, "of the requests that come in, the part that is traced: 0 to 1", roles=_ON_THE_BUS, check=checks.ratio
    )
    print_config: bool = option(True, "print the effective configuration at start")
    server_id: str = option(
        "",
        f"name of this server, and client id of its startup functions; empty: {DEFAULT_SERVER_ID}",
        check=checks.server_id,
    )

    # What it serves besides.
    static_mounts: tuple[str, ...] = option(
        (), "folders served as they are: /path:./folder …", roles=_GATEWAY, check=checks.static_mounts
    )
    startup_functions: tuple[str, ...] = option(
        (),
        "functions run when the cluster is up: file.py:function or module:function …",
        roles=_STARTUP,
        check=checks.startup_functions,
    )
    forget_custom_auth: bool = option(
        False, "no startup function authenticates users any more, whatever one registered before", roles=("auth",)
    )
    gateway_url: str = option(
        "", "address of a gateway for startup functions and workers; default public_base_url",
        roles=("apps", "startup"), check=checks.http_url,
    )  # fmt: skip

    # The embedded cluster (python -m hypha.server).
    data_dir: str = option("", "where the cluster keeps its data; default: $XDG_DATA_HOME/hypha", roles=_SERVER)
    postgres_user: str = option(
        "nobody", "who PostgreSQL runs as where root starts the server: it refuses to be root", roles=_SERVER
    )
    gateways: int = option(1, "gateways to start; number i listens at port + i", roles=_SERVER, minimum=1)
    workspace_replicas: int = option(1, "replicas of the workspace service", roles=_SERVER, minimum=1)
    auth_replicas: int = option(1, "replicas of the auth service", roles=_SERVER, minimum=1)
    artifacts_replicas: int = option(1, "replicas of the artifacts service", roles=_SERVER, minimum=1)
    apps_replicas: int = option(1, "replicas of the apps service", roles=_SERVER, minimum=1)
    browser_workers: int = option(1, "browser workers; 0: apps in browsers run elsewhere", roles=_SERVER, minimum=0)
    disable_inprocess_browser_worker: bool = option(False, "the same as browser_workers 0", roles=_SERVER)
    start_minio_server: bool = option(False, "start an S3 server on this machine, at minio_port", roles=_SERVER)
    minio_workdir: str = option("", "folder where that server keeps its files; default: a temporary one", roles=_SERVER)
    minio_port: int = option(9000, "port of that server", roles=_SERVER, check=checks.port)
    minio_console_port: int = option(0, "port of its console; 0: minio_port + 1", roles=_SERVER, check=checks.port)
    minio_root_user: str = option("minioadmin", "user of that server", roles=_SERVER, check=checks.minio_user)
    minio_root_password: str = option(
        "minioadmin", "password of that server; with another than this it listens at host, not only on this machine",
        secret=True, exposed=True, roles=_SERVER, check=checks.minio_password,
    )  # fmt: skip
    minio_version: str = option("", "version of MinIO: none is downloaded, so it must be the one found", roles=_SERVER)
    mc_version: str = option("", "version of the MinIO client: none is needed", roles=_SERVER)
    minio_file_system_mode: bool = option(False, "keep files as plain files in minio_workdir", roles=_SERVER)
    executable_path: str = option("", "a minio program, or the folder that holds one", roles=_SERVER)

    # Where each value that is no default came from: ``flag --port``, ``environment HYPHA_PORT`` …
    sources: Mapping[str, str] = dataclasses.field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def load(
        cls,
        flags: Mapping[str, Any] | None = None,
        *,
        environ: Mapping[str, str] | None = None,
        file: str | Path | None = None,
    ) -> Settings:
        """
        Merge flags (None: not given) over the environment over a TOML file. Raises ConfigurationError.

        ``environ`` defaults to the process's; ``file`` to the one that ``HYPHA_CONFIG`` names.

        """
        environ = os.environ if environ is None else environ
        file = file or environ.get(_CONFIG_FILE) or None
        values: dict[str, Any] = {}
        sources: dict[str, str] = {}
        for name, value, source in (*_from_file(file), *_from_environment(environ), *_from_flags(flags or {})):
            values[name] = OPTIONS[name].parse(_tidy(name, value), source)
            sources[name] = source
        return cls(**values, sources=sources)._completed()

    def _completed(self) -> Settings:
        path = "/" + self.base_path.strip("/")
        given = self.public_base_url if "public_base_url" in self.sources else ""
        url = given.rstrip("/") or f"http://127.0.0.1:{self.port}{path.rstrip('/')}"
        return dataclasses.replace(self, base_path=path, public_base_url=url)

    def replace(self, source: str = "computed", **changes: Any) -> Settings:
        """Return a copy with other values, each of them checked. Raises ConfigurationError."""
        for name, value in changes.items():
            OPTIONS[name].validate(value, source)
        sources = {**self.sources, **dict.fromkeys(changes, source)}
        return dataclasses.replace(self, **changes, sources=sources)._completed()

    @property
    def local_base_url(self) -> str:
        """The address on this machine: ``http://127.0.0.1:<port><base path>``."""
        return f"http://127.0.0.1:{self.port}{self.base_path.rstrip('/')}"

    @property
    def startup_client(self) -> str:
        """The client id in workspace ``public`` that startup functions act as: what clients read as ``server_id``."""
        return self.server_id or DEFAULT_SERVER_ID

    @property
    def nats_urls(self) -> list[str]:
        return [url.strip() for url in self.nats_url.split(",") if url.strip()]

    @cached_property
    def partitions(self) -> tuple[Partitions, ...]:
        """The databases by workspace partition; one for all by default."""
        if not self.database_partitions:
            return (Partitions(0, PARTITIONS - 1, self.database_url),)
        parts = [part for part in placement(self.database_partitions) if part.numbers]
        runs = [Partitions(part.numbers[0], part.numbers[-1], part.url) for part in parts]
        return tuple(sorted(runs, key=lambda run: run.first))

    @cached_property
    def databases(self) -> tuple[NamedDatabase, ...]:
        """Every database that may hold workspaces, in the order in which they are written."""
        if not self.database_partitions:
            return (NamedDatabase(default_name(self.database_url), self.database_url),)
        parts = placement(self.database_partitions)
        return tuple(dict.fromkeys(NamedDatabase(part.name, part.url) for part in parts))

    @cached_property
    def served_partitions(self) -> frozenset[int]:
        """The partitions that this replica serves."""
        words = self.serve_partitions.split(",") if self.serve_partitions else [f"0-{PARTITIONS - 1}"]
        return frozenset(number for word in words for number in partition_range(word))

    @property
    def workspace_databases(self) -> list[str]:
        """The address of every database that may hold workspaces, once."""
        return [database.url for database in self.databases]

    def partition_heads(self) -> tuple[int, ...]:
        """One partition of each database: what concerns every database is sent once to each of these."""
        by_url = {run.url: run.first for run in reversed(self.partitions)}
        return tuple(sorted(by_url.values()))

    def require(self, *names: str) -> None:
        """Raise ConfigurationError unless each named setting has a value."""
        for name in names:
            if not getattr(self, name):
                row = OPTIONS[name]
                flag = "" if row.secret else f" or {row.flag}"
                raise ConfigurationError(f"{name} is missing: set {row.environment[0]}{flag} ({row.help})")

    def environment(self) -> dict[str, str]:
        """Return the variables that make another process load these same settings."""
        return {
            row.environment[0]: row.written(getattr(self, row.name))
            for row in OPTIONS.values()
            # What was given counts as given also where it says what the default says.
            if getattr(self, row.name) != row.default or row.name in self.sources
        }

    def effective(self, role: str) -> Iterator[tuple[str, str, str]]:
        """Yield (name, value, source) of what ``role`` reads; secrets are masked."""
        for row in OPTIONS.values():
            if row.used_by(role):
                yield row.name, row.shown(getattr(self, row.name)), self.sources.get(row.name, "default")


OPTIONS: dict[str, Option] = options_of(Settings)
_BY_ENVIRONMENT = {name: row for row in OPTIONS.values() for name in row.environment}


def unknown_environment(environ: Mapping[str, str], *, known: frozenset[str] = frozenset()) -> list[str]:
    """Return a sentence for each ``HYPHA_*`` variable that nothing reads; never an error: platforms inject some."""
    names = {*_BY_ENVIRONMENT, _CONFIG_FILE, *known}
    sentences = []
    for name in sorted(environ):
        if name in _BY_ENVIRONMENT and _injected(name, environ[name]):
            sentences.append(f"{name}={environ[name]} is ignored: it looks like a Kubernetes service link")
        elif name.startswith("HYPHA_") and name.removesuffix("_FILE") not in names | _FOREIGN_ENVIRONMENT:
            sentences.append(f"{name} is not a setting and is ignored{nearest(name, names)}")
    return sentences


def _injected(name: str, value: str) -> bool:
    return name.startswith("HYPHA_") and _SERVICE_LINK.fullmatch(value) is not None


def _from_flags(flags: Mapping[str, Any]) -> Iterator[tuple[str, OptionValue, str]]:
    for name, value in flags.items():
        if name not in OPTIONS:
            raise ConfigurationError(f"unknown setting {name!r}{nearest(name, OPTIONS)}")
        if value is not None:
            yield name, value, f"flag {OPTIONS[name].flag}"


def _from_environment(environ: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    for row in OPTIONS.values():
        for name in row.environment:
            if name in environ and not _injected(name, environ[name]):
                # An empty variable is how compose files and shells write "not set".
                if environ[name] or isinstance(row.default, str):
                    yield row.name, environ[name], f"environment {name}"
                break
            if (row.secret or row.address) and f"{name}_FILE" in environ:
                yield row.name, _read(environ[f"{name}_FILE"]).strip(), f"environment {name}_FILE"
                break


def _from_file(path: str | Path | None) -> Iterator[tuple[str, object, str]]:
    if path is None:
        return
    try:
        table = tomllib.loads(_read(path))
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{path}: {error}") from None
    for name, value in table.items():
        if name not in OPTIONS:
            raise ConfigurationError(f"{path}: unknown setting {name!r}{nearest(name, OPTIONS)}")
        yield name, value, f"file {path}"


def _read(path: str | Path) -> str:
    try:
        return Path(path).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} cannot be read: {error}") from None


def _tidy(name: str, value: object) -> object:
    """
    Accept what users of other servers write.

    Log levels in small letters, SQLAlchemy's driver in an address, several origins in one word.

    """
    if name == "allow_origins" and isinstance(value, (list, tuple)):
        return tuple(part for word in value for part in str(word).split(",") if part)
    if isinstance(value, str):
        if name == "log_level":
            return value.strip().upper()
        if name == "database_url":
            return value.replace("postgresql+asyncpg://", "postgresql://", 1)
    return value
