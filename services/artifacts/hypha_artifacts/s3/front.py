from __future__ import annotations

import hashlib
import time
from typing import TYPE_CHECKING

from hypha_artifacts.addresses import OWN_KEY_ID, own_secrets
from hypha_common.errors import HyphaError, NotFound

from .blocked import BlockedUsers
from .credentials import CredentialRows, workspace_secrets
from .errors import S3Error, error_reply, s3_error_of
from .own import OwnAddresses
from .request import S3Request
from .signature import Signature
from .workspace_api import WorkspaceApi

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hypha_artifacts.core import Core
    from hypha_artifacts.files import BlobRows
    from hypha_artifacts.http.routes import Handler, Receiver
    from hypha_artifacts.workspace_files.objects import WorkspaceObjects
    from hypha_artifacts.workspace_files.rights import Rights
    from hypha_artifacts.workspace_files.uploads import Uploads
    from hypha_common.plans import HttpCall, Plan

__all__ = ["S3Front"]


class S3Front:
    """
    The S3 API at ``/s3``: judges who signed a request, then says how it is to be answered.

    Addresses of our own may do what they were signed for; keys of workspaces anything with the files of theirs.

    """

    def __init__(
        self,
        core: Core,
        rights: Rights,
        objects: WorkspaceObjects,
        uploads: Uploads,
        credentials: CredentialRows,
        blobs: BlobRows,
    ) -> None:
        self._core = core
        self._rights = rights
        self._credentials = credentials
        self._own = OwnAddresses(core, objects, blobs)
        self._blocked = BlockedUsers(core.bus)
        self._api = WorkspaceApi(core, objects, uploads)

    def handlers(self) -> Mapping[str, Handler]:
        return {"s3": self.handle}

    def receivers(self) -> Mapping[str, Receiver]:
        return {**self._own.receivers(), **self._api.receivers()}

    async def handle(self, call: HttpCall) -> Plan:
        """Return the plan that answers a request; faults are answers, too, in XML."""
        try:
            return await self._answer(S3Request.of(call, self._core.settings))
        except S3Error as error:
            return error_reply(error, f"/{call.params.get('bucket', '')}/{call.params.get('key', '')}")
        except HyphaError as error:
            return error_reply(s3_error_of(error), f"/{call.params.get('bucket', '')}/{call.params.get('key', '')}")

    async def _answer(self, request: S3Request) -> Plan:
        signature = Signature.of(request.signed)
        settings = self._core.settings
        if signature.access_key_id == OWN_KEY_ID:
            signature.check_time(time.time())
            signature.check(request.signed, own_secrets(settings))
            return await self._own.answer(request)
        credential = await self._credentials.find(signature.access_key_id)
        if credential is None:
            raise S3Error("InvalidAccessKeyId", "The access key id is not known here")
        signature.check_time(time.time())
        signature.check(request.signed, workspace_secrets(settings, credential.access_key_id))
        _check_body(signature, request)
        if credential.is_expired:
            raise S3Error("ExpiredToken", "These credentials have expired; ask for new ones by generate_credential()")
        await self._blocked.check([credential.user_id])
        try:
            workspace = await self._core.workspaces.find(credential.workspace)
        except NotFound:
            raise S3Error("InvalidAccessKeyId", "The workspace of these credentials has been deleted") from None
        may_write = self._rights.is_writable(workspace) and not credential.read_only
        return await self._api.answer(request, credential, may_write=may_write)


def _check_body(signature: Signature, request: S3Request) -> None:
    """Raise S3Error where a body that is read here is another than was signed."""
    declared = signature.payload_hash
    if request.body and len(declared) == 64 and hashlib.sha256(request.body).hexdigest() != declared:
        raise S3Error("XAmzContentSHA256Mismatch", "The body is another than x-amz-content-sha256 says")
