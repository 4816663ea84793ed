from __future__ import annotations

from typing import Any

import structlog

__all__ = ["allow_browsers"]

log = structlog.get_logger(__name__)

# What pages of any origin may do with an address that somebody gave them (contract 02 §4.1); its signature decides.
_RULES = {
    "CORSRules": [
        {
            "AllowedOrigins": ["*"],
            "AllowedHeaders": ["*"],
            "AllowedMethods": ["GET", "HEAD", "PUT", "POST", "DELETE"],
            "ExposeHeaders": ["ETag", "Accept-Ranges", "Content-Length", "Content-Range"],
            "MaxAgeSeconds": 3000,
        }
    ]
}


async def allow_browsers(client: Any, bucket: str) -> None:
    """
    Let browsers use addresses that lead to the store itself, unless its operator has set rules already.

    A store that cannot, or that does not let us, is told of in the log; everything but browsers works all the same.

    """
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        answer = await client.get_bucket_cors(Bucket=bucket)
        if answer.get("CORSRules"):
            return
    except (ClientError, BotoCoreError):  # none yet, or not ours to see
        pass
    try:
        await client.put_bucket_cors(Bucket=bucket, CORSConfiguration=_RULES)
    except (ClientError, BotoCoreError) as error:
        log.warning("bucket_cors_not_set", bucket=bucket, error=str(error))
