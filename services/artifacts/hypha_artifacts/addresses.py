from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from hypha_common.errors import BadRequest

from .blobs.sigv4 import Credentials, presign

if TYPE_CHECKING:
    from hypha_common.settings import Settings

    from .blobs import BlobStore

__all__ = ["MAX_EXPIRES_S", "OWN_KEY_ID", "Addresses", "as_expiry", "as_switch", "own_credentials", "own_secrets"]

OWN_KEY_ID = "hypha"  # access key id of addresses that this cluster signs for its own /s3
MAX_EXPIRES_S = 7 * 86400  # of a signature in a query
_TRUE, _FALSE = ("true", "1", "yes"), ("false", "0", "no", "")

Query = Iterable[tuple[str, str]]


class Addresses:
    """
    Addresses that do one thing to one key of the bucket, for a while, to be handed to clients (contract 02 §2.3).

    They lead to ``/s3`` of this server, or where that is not wanted to the store itself. Nobody else has to be asked.

    """

    def __init__(self, settings: Settings, store: BlobStore) -> None:
        self._settings = settings
        self._store = store
        self._own = own_credentials(settings)

    def is_direct(self, use_proxy: object = None) -> bool:
        """Tell whether an address leads to the store itself. ``use_proxy`` None: as the server is set up."""
        wanted = as_switch("use_proxy", use_proxy)
        return not (self._settings.enable_s3_proxy if wanted is None else wanted)

    def sign(
        self,
        method: str,
        key: str,
        *,
        expires_in: object = 3600,
        use_proxy: object = None,
        use_local_url: object = False,
        query: Query = (),
    ) -> str:
        """
        Return an address. Raises BadRequest where an argument makes no sense.

        ``use_local_url`` names the server's address on this machine (True), or another one (text).

        """
        expires_s = as_expiry(expires_in)
        if self.is_direct(use_proxy):
            endpoint = self._base(use_local_url, self._store.public_endpoint, self._store.endpoint)
            return self._store.address(method, key, expires_s=expires_s, query=query, endpoint=endpoint)
        base = self._base(use_local_url, self._settings.public_base_url, self._settings.local_base_url)
        return presign(
            method,
            f"{base}/s3/{self._store.bucket}/{key}",
            self._own,
            expires_s=expires_s,
            now=time.time(),
            query=query,
        )

    def _base(self, use_local_url: object, public: str, local: str) -> str:
        if isinstance(use_local_url, str) and use_local_url.lower() not in (*_TRUE, *_FALSE):
            if urlsplit(use_local_url).scheme not in ("http", "https"):
                raise BadRequest(f"use_local_url must be true, false or an http address, not {use_local_url!r}")
            return use_local_url.rstrip("/")
        return local if as_switch("use_local_url", use_local_url) else public


def own_credentials(settings: Settings) -> Credentials:
    """Return what signs, and verifies, addresses of our own ``/s3``: known to whoever knows the cluster's secret."""
    return Credentials(OWN_KEY_ID, next(own_secrets(settings)), settings.region_name)


def own_secrets(settings: Settings) -> Iterator[str]:
    """Yield what may have signed addresses of our own: the cluster's secret may have been changed since."""
    for known in (settings.jwt_secret, *settings.jwt_previous_secrets):
        yield hmac.new(known.encode(), b"hypha: addresses of files", hashlib.sha256).hexdigest()


def as_switch(name: str, value: object) -> bool | None:
    """Return what a client means by true, false or null; over HTTP that is text. Raises BadRequest."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in (*_TRUE, *_FALSE, "none", "null"):
        return None if value.lower() in ("none", "null") else value.lower() in _TRUE
    raise BadRequest(f"{name} must be true or false, not {value!r}")


def as_expiry(value: object) -> int:
    """Return a life in seconds, at most a week. Raises BadRequest."""
    if isinstance(value, str) and value.isdecimal():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 1 <= value <= MAX_EXPIRES_S:
        raise BadRequest(f"expires_in must be between 1 and {MAX_EXPIRES_S} seconds, not {value!r}")
    return int(value)
