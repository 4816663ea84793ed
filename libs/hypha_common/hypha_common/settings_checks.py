from __future__ import annotations

import re
from urllib.parse import urlsplit

from . import static_mounts as mounts
from .errors import BadRequest
from .ids import ROLE_CLIENTS, check_client_id
from .placement import partition_range, placement
from .subjects import PARTITIONS
from .trust import is_trustworthy

__all__ = [
    "access_key",
    "base_path",
    "bucket",
    "database_partitions",
    "database_url",
    "descriptors",
    "http_place",
    "http_url",
    "issuer_url",
    "jwt_secret",
    "jwt_secrets",
    "minio_password",
    "minio_user",
    "nats_url",
    "port",
    "ratio",
    "root_token",
    "serve_partitions",
    "server_id",
    "startup_functions",
    "static_mounts",
]

MIN_SECRET_BYTES = 32
MIN_ACCESS_KEY = 3  # stores refuse every request signed with a shorter one
MIN_MINIO_PASSWORD = 8
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_SHORT_ROOT_TOKEN = 64  # below this many characters a root token must not look like a word
_WEAK_WORDS = ("test", "root", "admin", "password", "token", "secret", "123", "abc", "hypha", "default")


def port(value: int) -> str | None:
    return None if 0 <= value <= 65535 else f"must be between 0 and 65535, not {value}"


def descriptors(value: str) -> str | None:
    if all(number.isdecimal() for number in value.split(",")):
        return None
    return f"must be numbers separated by commas, not {value!r}"


def base_path(value: str) -> str | None:
    return None if value.startswith("/") else f"must begin with '/', not {value!r}"


def ratio(value: float) -> str | None:
    return None if 0 <= value <= 1 else f"must be between 0 and 1, not {value:g}"


def http_url(value: str) -> str | None:
    parts = urlsplit(value)
    if parts.scheme in ("http", "https") and parts.hostname:
        return None
    return f"must be an http:// or https:// address, not {value!r}"


def http_place(value: str) -> str | None:
    """Check an address, or the path of something that the cluster itself serves."""
    if value.startswith("/") and not value.startswith("//"):
        return None
    return http_url(value) and f"must be an http:// or https:// address, or a path like /folder/, not {value!r}"


def nats_url(value: str) -> str | None:
    for url in value.split(","):
        if urlsplit(url.strip()).scheme not in ("nats", "tls"):
            return "must be nats:// addresses, separated by commas"
    return None


def database_url(value: str) -> str | None:
    """Say what is wrong without repeating the value: it holds a password."""
    scheme = urlsplit(value).scheme
    if scheme.startswith("sqlite"):
        return "must name a PostgreSQL server (postgresql://…): SQLite holds one process only and is not supported"
    if scheme not in ("postgresql", "postgres", "postgresql+asyncpg"):
        return f"must be a postgresql:// address, not one of scheme {scheme!r}"
    return None


def database_partitions(value: str) -> str | None:
    """``[name:]0-31=url,[name:]32-63=url,[name:]none=url``: every partition exactly once."""
    try:
        parts = placement(value)
    except ValueError as error:
        return str(error)
    for part in parts:
        wrong = database_url(part.url)
        if wrong:
            return f"{part.name}: {wrong}"
    if sorted(number for part in parts for number in part.numbers) != list(range(PARTITIONS)):
        return "must name every partition from 0 to 63 exactly once"
    url_of: dict[str, str] = {}
    for part in parts:
        if url_of.setdefault(part.name, part.url) != part.url:
            return f"gives the name {part.name} to two databases"
    return None


def serve_partitions(value: str) -> str | None:
    """``0-31`` or ``0-15,40``: in ascending order, each once."""
    try:
        numbers = [number for word in value.split(",") for number in partition_range(word)]
    except ValueError as error:
        return str(error)
    if numbers != sorted(set(numbers)):
        return "must be in ascending order, and name each partition once"
    return None


def issuer_url(value: str) -> str | None:
    """What an issuer says decides who people are: it must reach us as it was said."""
    parts = urlsplit(value)
    if is_trustworthy(value) and not parts.query and not parts.fragment:
        return None
    return f"must be an https:// address (http:// only on this machine) without query, not {value!r}"


def jwt_secret(value: str) -> str | None:
    if len(value.encode()) < MIN_SECRET_BYTES:
        return f"must have at least {MIN_SECRET_BYTES} bytes"
    return None


def jwt_secrets(values: tuple[str, ...]) -> str | None:
    return next(filter(None, map(jwt_secret, values)), None)


def root_token(value: str) -> str | None:
    if len(value) < MIN_SECRET_BYTES:
        return f"must have at least {MIN_SECRET_BYTES} characters"
    word = next((word for word in _WEAK_WORDS if word in value.lower()), None)
    if word and len(value) < _SHORT_ROOT_TOKEN:
        return f"must not contain {word!r} unless it has {_SHORT_ROOT_TOKEN} characters or more"
    return None


def server_id(value: str) -> str | None:
    """It is a client id in workspace ``public``."""
    try:
        check_client_id(value)
    except BadRequest:
        return f"must be a client id, without any of / * : @, not {value!r}"
    return f"must not be {value!r}, which is a service of the cluster" if value in ROLE_CLIENTS else None


def startup_functions(value: tuple[str, ...]) -> str | None:
    for entrypoint in value:
        place, colon, name = entrypoint.rpartition(":")
        if not (colon and place and name):
            return f"must look like file.py:function or module:function, not {entrypoint!r}"
    return None


def static_mounts(value: tuple[str, ...]) -> str | None:
    try:
        mounts.static_mounts(value)
    except ValueError as error:
        return str(error)
    return None


def access_key(value: str) -> str | None:
    return None if len(value) >= MIN_ACCESS_KEY else f"must have at least {MIN_ACCESS_KEY} characters"


def minio_user(value: str) -> str | None:
    if any(character in value for character in ",=/ "):
        return "must have no commas, blanks, slashes or equals signs"
    return access_key(value)


def minio_password(value: str) -> str | None:
    """As MinIO itself wants it, whichever program runs."""
    return None if len(value) >= MIN_MINIO_PASSWORD else f"must have at least {MIN_MINIO_PASSWORD} characters"


def bucket(value: str) -> str | None:
    if _BUCKET.fullmatch(value):
        return None
    return f"must have 3 to 63 lower-case letters, digits, dots and hyphens, not {value!r}"
