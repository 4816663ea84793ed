from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from hypha_common.errors import BadRequest, NotFound, Unavailable

from . import metrics
from .sigv4 import Credentials

__all__ = ["s3_client", "translated"]


@asynccontextmanager
async def s3_client(endpoint: str, credentials: Credentials, *, read_timeout_s: float = 30) -> AsyncIterator[Any]:
    """Make a client of an S3 store, with what contract 02 §9.2 found to work with many."""
    from aiobotocore.config import AioConfig
    from aiobotocore.session import get_session
    from botocore.handlers import add_expect_header

    async with get_session().create_client(
        "s3",
        endpoint_url=endpoint,
        aws_access_key_id=credentials.access_key_id,
        aws_secret_access_key=credentials.secret_access_key,
        region_name=credentials.region,
        config=AioConfig(
            signature_version="s3v4",
            s3={"addressing_style": "path"},
            # Not every store knows the checksums that botocore sends by default, and some break on them.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            max_pool_connections=100,
            connect_timeout=3,
            read_timeout=read_timeout_s,
            retries={"mode": "standard", "total_max_attempts": 3},
        ),
    ) as client:
        # It sends `Expect: 100-continue` with every body: a store that refuses early never says "continue", and the
        # client would wait for ever.
        client.meta.events.unregister("before-call.s3", add_expect_header)
        yield client


@contextmanager
def translated(*, streams: bool = False) -> Iterator[None]:
    """
    Turn failures of the store into errors of ours; what they say of keys and buckets stays here.

    The time is measured but for what ``streams``: that lasts as long as somebody reads.

    """
    from aiohttp import ClientError as TransportError
    from botocore.exceptions import BotoCoreError, ClientError

    began = time.perf_counter()
    try:
        yield
        if not streams:
            metrics.REQUEST_SECONDS.observe(time.perf_counter() - began)
    except ClientError as error:
        answer = error.response
        status = answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 500)
        code = str(answer.get("Error", {}).get("Code", ""))
        if status == 404 or code in ("NoSuchKey", "NoSuchUpload", "404"):
            raise NotFound(f"The store has no such object ({code})") from None
        if status >= 500 or status in (429, 403):
            metrics.ERRORS.labels("failed").inc()
            raise Unavailable(f"The store failed: {code or status}") from error
        metrics.ERRORS.labels("refused").inc()
        raise BadRequest(f"The store refused: {code}") from None
    except (TimeoutError, BotoCoreError, TransportError, OSError) as error:
        metrics.ERRORS.labels("away").inc()
        raise Unavailable(f"The store is not available: {type(error).__name__}") from error
