from __future__ import annotations

from typing import TYPE_CHECKING

from hypha_common.plans import Reply

from .errors import S3Error
from .listing import list_objects
from .multipart import MultipartApi
from .object_api import ObjectApi
from .request import check_key
from .xml import document

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hypha_artifacts.core import Core
    from hypha_artifacts.http.routes import Receiver
    from hypha_artifacts.workspace_files.objects import WorkspaceObjects
    from hypha_artifacts.workspace_files.uploads import Uploads
    from hypha_common.plans import Plan

    from .credentials import Credential
    from .request import S3Request

__all__ = ["WorkspaceApi"]

_XML = [("content-type", "application/xml")]
_NO_OWNERS = {"acl", "attributes", "legal-hold", "retention", "restore", "select", "tagging", "torrent", "versionId"}
_NO_BUCKET_SETTINGS = {
    "accelerate", "acl", "analytics", "cors", "encryption", "intelligent-tiering", "inventory", "lifecycle", "logging",
    "metrics", "notification", "object-lock", "ownershipControls", "policy", "policyStatus", "publicAccessBlock",
    "replication", "requestPayment", "tagging", "versions", "website",
}  # fmt: skip


class WorkspaceApi:
    """The S3 API for the files of one workspace: everything below ``<workspace>/`` and nothing else."""

    def __init__(self, core: Core, objects: WorkspaceObjects, uploads: Uploads) -> None:
        self._core = core
        self._objects = ObjectApi(core, objects)
        self._multipart = MultipartApi(core, objects, uploads)

    def receivers(self) -> Mapping[str, Receiver]:
        return {**self._objects.receivers(), **self._multipart.receivers()}

    async def answer(self, request: S3Request, credential: Credential, *, may_write: bool) -> Plan:
        """Return the plan for a request signed by a workspace's key. Raises S3Error."""
        prefix = f"{credential.workspace}/"
        if request.bucket != self._core.store.bucket:
            raise S3Error("AccessDenied", f"These credentials are for bucket {self._core.store.bucket}")
        reads = request.method in ("GET", "HEAD")
        if not reads and not may_write:
            raise S3Error("AccessDenied", f"Workspace {credential.workspace} can only be read with these credentials")
        if not request.key:
            return await self._bucket(request, prefix)
        if not request.key.startswith(prefix):
            raise S3Error("AccessDenied", f"These credentials are for keys that begin with {prefix}")
        check_key(request.key)
        if request.query.keys() & _NO_OWNERS:
            raise S3Error("NotImplemented", "Objects have no access lists, tags or versions here")
        if "uploads" in request.query or "uploadId" in request.query:
            return await self._multipart.answer(request, prefix)
        return await self._objects.answer(request, prefix)

    async def _bucket(self, request: S3Request, prefix: str) -> Plan:
        if request.method == "HEAD":
            return Reply(200, [("x-amz-bucket-region", self._core.settings.region_name)])
        if request.method == "POST" and "delete" in request.query:
            return await self._objects.delete_several(request, prefix)
        if request.method == "PUT" and not request.query:
            raise S3Error("BucketAlreadyOwnedByYou", "The bucket is there already")
        if request.method != "GET":
            raise S3Error("AccessDenied", "The bucket belongs to the server")
        if "location" in request.query:
            return Reply(200, _XML, document("LocationConstraint", self._core.settings.region_name))
        if "versioning" in request.query:
            return Reply(200, _XML, document("VersioningConfiguration", ""))
        if request.query.keys() & _NO_BUCKET_SETTINGS:
            raise S3Error("NotImplemented", "The bucket has no such settings")
        if not request.query.get("prefix", "").startswith(prefix):
            raise S3Error("AccessDenied", f"Only what begins with {prefix} can be listed with these credentials")
        if "uploads" in request.query:
            return await self._multipart.list_uploads(request)
        return Reply(200, _XML, await list_objects(self._core.store, request))
