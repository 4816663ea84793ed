from __future__ import annotations

import time
from typing import Any

import jwt

from hypha.server.data_directory import DataDirectory
from hypha_common.tokens import TokenCodec
from tests.cluster.running_cluster import RunningCluster

__all__ = ["codec_of", "forged", "secret_of"]


def secret_of(cluster: RunningCluster) -> str:
    return DataDirectory(cluster.data_dir).read_secrets().jwt_secret


def codec_of(cluster: RunningCluster) -> TokenCodec:
    """Return what signs and reads the tokens of a cluster."""
    return TokenCodec(secret_of(cluster))


def forged(cluster: RunningCluster, *, key: str | None = None, algorithm: str = "HS256", **changes: Any) -> str:
    """Return a user's token with other claims, key or algorithm; a claim that is None is left out."""
    claims: dict[str, Any] = jwt.decode(cluster.user_token(), options={"verify_signature": False})
    claims.update(changes)
    if "exp" not in changes:
        claims["exp"] = int(time.time()) + 60
    claims = {name: value for name, value in claims.items() if value is not None}
    secret = "" if algorithm == "none" else secret_of(cluster) if key is None else key
    return jwt.encode(claims, secret, algorithm=algorithm)
