from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from hypha_artifacts.blobs.cors import allow_browsers

NONE_YET = ClientError({"Error": {"Code": "NoSuchCORSConfiguration"}}, "GetBucketCors")
NOT_OURS = ClientError({"Error": {"Code": "AccessDenied"}}, "PutBucketCors")


class Bucket:
    """What a store answers about rules: that of the embedded cluster has none and takes none."""

    def __init__(self, rules: Any, refusal: Exception | None = None) -> None:
        self._rules = rules
        self._refusal = refusal
        self.written: list[Any] = []

    async def get_bucket_cors(self, *, Bucket: str) -> dict[str, Any]:  # noqa: N803
        if isinstance(self._rules, Exception):
            raise self._rules
        return {"CORSRules": self._rules}

    async def put_bucket_cors(self, *, Bucket: str, CORSConfiguration: Any) -> None:  # noqa: N803
        if self._refusal is not None:
            raise self._refusal
        self.written.append(CORSConfiguration)


async def test_rules_of_the_operator_stay() -> None:
    bucket = Bucket([{"AllowedOrigins": ["https://example.org"]}])
    await allow_browsers(bucket, "b")
    assert bucket.written == []


@pytest.mark.parametrize("rules", [NONE_YET, []])
async def test_rules_are_made_where_there_are_none(rules: Any) -> None:
    bucket = Bucket(rules)
    await allow_browsers(bucket, "b")
    [written] = bucket.written
    [rule] = written["CORSRules"]
    assert rule["AllowedOrigins"] == rule["AllowedHeaders"] == ["*"]
    assert {"ETag", "Content-Range", "Accept-Ranges"} <= set(rule["ExposeHeaders"])


@pytest.mark.parametrize("refusal", [NOT_OURS, EndpointConnectionError(endpoint_url="http://s3")])
async def test_store_that_refuses_is_only_logged(refusal: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    await allow_browsers(Bucket(NONE_YET, refusal), "b")
    assert "bucket_cors_not_set" in capsys.readouterr().out
