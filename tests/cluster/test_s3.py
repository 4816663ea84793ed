"""Our own S3 API as S3 clients use it: through a gateway, with credentials that the hub made."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sysconfig
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import psutil
import pytest
from aiobotocore.config import AioConfig
from aiobotocore.session import get_session
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from tests.cluster.running_cluster import RunningCluster
from tests.fixtures.clients import Connect

MIB = 2**20


class Bucket:
    """What a user has of the store: a client, the bucket, and the prefix in it."""

    def __init__(self, client: Any, credential: Any) -> None:
        self.client = client
        self.credential = credential
        self.bucket = credential["bucket"]
        self.prefix = credential["prefix"]

    def at(self, path: str) -> dict[str, str]:
        return {"Bucket": self.bucket, "Key": self.prefix + path}


@pytest.fixture
async def credential(cluster: RunningCluster, connect: Connect) -> Any:
    client = await connect(token=cluster.user_token())
    storage = await client.get_service("public/s3-storage")
    return await storage.generate_credential()


@pytest.fixture
async def s3(credential: Any) -> AsyncIterator[Bucket]:
    """A client as aioboto3 makes one: with botocore's defaults, but for the addresses."""
    async with _client(credential) as client:
        yield Bucket(client, credential)


def _client(credential: Any, **options: Any) -> Any:
    return get_session().create_client(
        "s3",
        endpoint_url=credential["endpoint_url"],
        aws_access_key_id=credential["access_key_id"],
        aws_secret_access_key=credential["secret_access_key"],
        region_name=credential["region_name"],
        config=AioConfig(retries={"total_max_attempts": 1}, **options),
    )


async def test_objects(s3: Bucket) -> None:
    """Put, head, get, ranges, metadata, copy, delete; checksums that botocore adds by itself do no harm."""
    at = s3.at("dir/ü +x&y.bin")
    data = os.urandom(300_000)
    put = await s3.client.put_object(**at, Body=data, ContentType="image/x-odd", Metadata={"author": "me"})
    assert put["ETag"] == f'"{hashlib.md5(data).hexdigest()}"'
    got = await s3.client.get_object(**at)
    assert await got["Body"].read() == data
    assert (got["ContentType"], got["Metadata"], got["ContentLength"]) == ("image/x-odd", {"author": "me"}, 300_000)
    part = await s3.client.get_object(**at, Range="bytes=100-199")
    assert part["ResponseMetadata"]["HTTPStatusCode"] == 206
    assert (await part["Body"].read(), part["ContentRange"]) == (data[100:200], "bytes 100-199/300000")
    head = await s3.client.head_object(**at)
    assert (head["ContentLength"], head["Metadata"]) == (300_000, {"author": "me"})
    await s3.client.copy_object(**s3.at("copy"), CopySource=at)
    assert (await s3.client.head_object(**s3.at("copy")))["ContentType"] == "image/x-odd"
    with pytest.raises(ClientError, match="PreconditionFailed"):
        await s3.client.put_object(**at, Body=b"x", IfNoneMatch="*")
    await s3.client.delete_object(**at)
    with pytest.raises(ClientError, match="NoSuchKey"):
        await s3.client.get_object(**at)
    with pytest.raises(ClientError, match="404"):
        await s3.client.head_object(**at)


async def test_listing(s3: Bucket) -> None:
    for n in range(12):
        await s3.client.put_object(**s3.at(f"list/{n:02}/a b"), Body=b"x")
    pages = s3.client.get_paginator("list_objects_v2").paginate(
        Bucket=s3.bucket, Prefix=f"{s3.prefix}list/", PaginationConfig={"PageSize": 5}
    )
    keys = [entry["Key"] async for page in pages for entry in page.get("Contents", ())]
    assert keys == [f"{s3.prefix}list/{n:02}/a b" for n in range(12)]
    for version in ("list_objects", "list_objects_v2"):
        pages = s3.client.get_paginator(version).paginate(
            Bucket=s3.bucket, Prefix=f"{s3.prefix}list/", Delimiter="/", PaginationConfig={"PageSize": 5}
        )
        found = [entry["Prefix"] async for page in pages for entry in page.get("CommonPrefixes", ())]
        assert found == [f"{s3.prefix}list/{n:02}/" for n in range(12)]
    objects = [{"Key": key} for key in keys]
    deleted = await s3.client.delete_objects(Bucket=s3.bucket, Delete={"Objects": objects})
    assert len(deleted["Deleted"]) == 12
    assert (await s3.client.list_objects_v2(Bucket=s3.bucket, Prefix=f"{s3.prefix}list/"))["KeyCount"] == 0


async def test_multipart(s3: Bucket) -> None:
    at = s3.at("large.bin")
    begun = await s3.client.create_multipart_upload(**at, ContentType="x/y")
    data = [os.urandom(5 * MIB), b"the end"]
    parts = []
    for number, piece in enumerate(data, 1):
        answer = await s3.client.upload_part(**at, UploadId=begun["UploadId"], PartNumber=number, Body=piece)
        parts.append({"PartNumber": number, "ETag": answer["ETag"]})
    listed = await s3.client.list_parts(**at, UploadId=begun["UploadId"])
    assert [part["Size"] for part in listed["Parts"]] == [5 * MIB, 7]
    await s3.client.complete_multipart_upload(**at, UploadId=begun["UploadId"], MultipartUpload={"Parts": parts})
    got = await s3.client.get_object(**at)
    assert await got["Body"].read() == b"".join(data)
    assert got["ContentType"] == "x/y"
    begun = await s3.client.create_multipart_upload(**at)
    await s3.client.abort_multipart_upload(**at, UploadId=begun["UploadId"])
    with pytest.raises(ClientError, match="NoSuchUpload"):
        await s3.client.upload_part(**at, UploadId=begun["UploadId"], PartNumber=1, Body=b"x")


async def test_nothing_outside(s3: Bucket, cluster: RunningCluster, connect: Connect) -> None:
    """Another workspace, artifacts, the root of the bucket, other buckets: AccessDenied."""
    for key in ("ws-user-other/x", "artifacts/x", "x", f"{s3.prefix[:-1]}-more/x"):
        for method, options in (("get_object", {}), ("put_object", {"Body": b"x"}), ("delete_object", {})):
            with pytest.raises(ClientError, match="AccessDenied"):
                await getattr(s3.client, method)(Bucket=s3.bucket, Key=key, **options)
    for options in ({}, {"Prefix": ""}, {"Prefix": s3.prefix[:-1]}, {"Prefix": "artifacts/"}):
        with pytest.raises(ClientError, match="AccessDenied"):
            await s3.client.list_objects_v2(Bucket=s3.bucket, **options)
    with pytest.raises(ClientError, match="AccessDenied"):
        await s3.client.list_objects_v2(Bucket="other", Prefix=s3.prefix)
    with pytest.raises(ClientError, match="AccessDenied"):
        await s3.client.list_buckets()
    wrong = {**s3.credential, "secret_access_key": "guess"}
    async with _client(wrong) as client:
        with pytest.raises(ClientError, match="SignatureDoesNotMatch"):
            await client.get_object(**s3.at("x"))
    unknown = {**s3.credential, "access_key_id": "HY00AAAAAAAAAAAAAAAA"}
    async with _client(unknown) as client:
        with pytest.raises(ClientError, match="InvalidAccessKeyId"):
            await client.get_object(**s3.at("x"))


async def test_presigned(s3: Bucket) -> None:
    """Addresses that a client signs for others; their conditions hold."""
    url = await s3.client.generate_presigned_url("put_object", Params={**s3.at("p ü"), "ContentType": "text/x"})
    async with httpx.AsyncClient() as http:
        assert (await http.put(url, content=b"bytes", headers={"content-type": "text/y"})).status_code == 403
        assert (await http.put(url, content=b"bytes", headers={"content-type": "text/x"})).status_code == 200
        url = await s3.client.generate_presigned_url(
            "get_object", Params={**s3.at("p ü"), "ResponseContentDisposition": 'attachment; filename="x"'}
        )
        got = await http.get(url)
        assert (got.content, got.headers["content-type"]) == (b"bytes", "text/x")
        assert got.headers["content-disposition"] == 'attachment; filename="x"'
        assert (await http.get(url.replace("filename", "filenames"))).status_code == 403


async def test_bodies_in_chunks(s3: Bucket) -> None:
    """As clients send them that sign while they go, or add a checksum behind."""
    framed = b"5;chunk-signature=0\r\nhello\r\n0;chunk-signature=0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n"
    kind = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"

    class Auth(S3SigV4Auth):  # type: ignore[misc]
        def payload(self, request: AWSRequest) -> str:
            return kind

    headers = {"content-encoding": "aws-chunked", "x-amz-decoded-content-length": "5", "content-type": "text/plain"}
    url = f"{s3.credential['endpoint_url']}/{s3.bucket}/{s3.prefix}chunked.txt"
    request = AWSRequest(method="PUT", url=url, headers=headers, data=framed)
    keys = Credentials(s3.credential["access_key_id"], s3.credential["secret_access_key"])
    Auth(keys, "s3", s3.credential["region_name"]).add_auth(request)
    async with aiohttp.ClientSession() as session:
        answer = await session.put(url, data=framed, headers=dict(request.headers.items()))
        assert answer.status == 200, await answer.text()
    got = await s3.client.get_object(**s3.at("chunked.txt"))
    assert await got["Body"].read() == b"hello"
    assert "ContentEncoding" not in got


async def test_large_bodies_are_streamed(s3: Bucket, cluster: RunningCluster) -> None:
    """No process grows by what passes it."""
    size = 64 * MIB
    at = s3.at("streamed")
    processes = [psutil.Process(pid) for role in ("gateway", "artifacts") for pid in cluster.pids[role]]
    before = [process.memory_info().rss for process in processes]
    data = os.urandom(size)
    await s3.client.put_object(**at, Body=data)
    got = await s3.client.get_object(**at)
    found = hashlib.md5()
    async for piece in got["Body"].iter_chunks(256 * 1024):
        found.update(piece)
    assert found.hexdigest() == hashlib.md5(data).hexdigest()
    grown = [process.memory_info().rss - earlier for process, earlier in zip(processes, before, strict=True)]
    assert max(grown) < 48 * MIB
    await s3.client.delete_object(**at)


async def test_rclone(credential: Any, tmp_path: Path) -> None:
    """Copy a folder up, sync it down, see what is there, purge it; large files in parts, with their times."""
    source, target = tmp_path / "source", tmp_path / "target"
    (source / "sub dir").mkdir(parents=True)
    (source / "ü +.txt").write_bytes(b"small")
    (source / "sub dir" / "large").write_bytes(os.urandom(12 * MIB))
    config = tmp_path / "rclone.conf"
    config.write_text(
        "[hub]\ntype = s3\nprovider = Other\n"
        f"endpoint = {credential['endpoint_url']}\n"
        f"access_key_id = {credential['access_key_id']}\n"
        f"secret_access_key = {credential['secret_access_key']}\n"
        f"region = {credential['region_name']}\n"
    )
    remote = f"hub:{credential['bucket']}/{credential['prefix']}backup"

    in_parts = ("--s3-upload-cutoff=6M", "--s3-chunk-size=5M")

    def rclone(*arguments: str) -> str:
        program = Path(sysconfig.get_path("scripts")) / "rclone"
        command = [program, "--config", config, "--retries=1", *in_parts, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout

    rclone("copy", str(source), remote)
    assert sorted(rclone("lsf", "--recursive", remote).split("\n")[:-1]) == ["sub dir/", "sub dir/large", "ü +.txt"]
    rclone("check", str(source), remote)
    rclone("sync", remote, str(target))
    for path in ("ü +.txt", "sub dir/large"):
        assert (target / path).read_bytes() == (source / path).read_bytes()
        assert abs((target / path).stat().st_mtime - (source / path).stat().st_mtime) < 0.001
    rclone("moveto", f"{remote}/ü +.txt", f"{remote}/other/name.txt")
    assert rclone("cat", f"{remote}/other/name.txt") == "small"
    rclone("purge", remote)
    assert rclone("lsf", f"hub:{credential['bucket']}/{credential['prefix']}") == ""
