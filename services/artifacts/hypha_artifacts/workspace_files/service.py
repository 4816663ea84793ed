from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypha_artifacts.addresses import as_expiry
from hypha_artifacts.files.media_type import media_type
from hypha_artifacts.files.signing import sign_all
from hypha_artifacts.s3.credentials import workspace_secret
from hypha_common.errors import BadRequest, PermissionDenied
from hypha_common.principal import Permission
from hypha_common.rpc.caller import Caller
from hypha_common.rpc.service import rpc_method

from .folders import as_count, list_folder
from .parts import MAX_PARTS, read_parts
from .rights import check_writable_key, workspace_key

if TYPE_CHECKING:
    from hypha_artifacts.core import Core
    from hypha_artifacts.s3.credentials import CredentialRows

    from .objects import WorkspaceObjects
    from .rights import Rights
    from .uploads import Uploads

__all__ = ["S3Storage", "begin_upload"]

_MAX_TTL_S = 10 * 366 * 86400


class S3Storage:
    """
    Files of the caller's workspace: the service ``public/s3-storage`` (contract 02 §4.4).

    Paths are relative to the workspace; one that begins with ``/`` is a path in the bucket, for administrators.

    """

    def __init__(
        self, core: Core, rights: Rights, objects: WorkspaceObjects, uploads: Uploads, credentials: CredentialRows
    ) -> None:
        self._core = core
        self._rights = rights
        self._objects = objects
        self._uploads = uploads
        self._credentials = credentials

    @rpc_method
    async def list_files(
        self, path: str = "", max_length: Any = 1000, offset: Any = 0, *, context: Caller
    ) -> list[dict[str, Any]]:
        """
        List one level of a folder.

        Args:
            path: the folder; empty: the root of the workspace
            max_length: how many entries at most
            offset: how many entries to leave out

        """
        prefix = await self._key(context, path, Permission.READ, folder=True)
        limit, start = as_count("max_length", max_length), as_count("offset", offset, most=10**8)
        return await list_folder(self._core.store, prefix, limit=limit, offset=start)

    @rpc_method
    async def put_file(
        self,
        file_path: Any,
        use_proxy: Any = None,
        use_local_url: Any = False,
        expires_in: Any = 3600,
        ttl: Any = None,
        *,
        context: Caller,
    ) -> Any:
        """
        Return an address to which the bytes of a file can be PUT; a map of them for a list of paths.

        Args:
            file_path: a path or a list of paths
            use_proxy: through this server (true), or at the store itself (false); default: as the server is set up
            use_local_url: the server's address on its own machine, or another one (text)
            expires_in: seconds that the address can be used
            ttl: seconds after which the file is deleted, or a list of them; none or 0: never

        """
        paths = _paths(file_path)
        ttls = _ttls(ttl, len(paths))
        keys = [check_writable_key(await self._key(context, path, Permission.READ_WRITE)) for path in paths]
        addresses = self._core.addresses
        if addresses.is_direct(use_proxy):  # nobody could tell later
            for key in keys:
                await self._objects.check_free(key)
        options = {"expires_in": expires_in, "use_proxy": use_proxy, "use_local_url": use_local_url}
        urls = dict(zip(paths, await sign_all(lambda key: addresses.sign("PUT", key, **options), keys), strict=True))
        await self._objects.rows.expire(dict(zip(keys, ttls, strict=True)))
        return urls if isinstance(file_path, list) else urls[file_path]

    @rpc_method
    async def get_file(
        self,
        file_path: Any,
        use_proxy: Any = None,
        use_local_url: Any = False,
        expires_in: Any = 3600,
        *,
        context: Caller,
    ) -> Any:
        """
        Return an address from which a file can be read; a map of them for a list of paths.

        Args:
            file_path: a path or a list of paths
            use_proxy: through this server (true), or at the store itself (false); default: as the server is set up
            use_local_url: the server's address on its own machine, or another one (text)
            expires_in: seconds that the address can be used

        """
        paths = _paths(file_path)
        keys = [await self._key(context, path, Permission.READ) for path in paths]
        options = {"expires_in": expires_in, "use_proxy": use_proxy, "use_local_url": use_local_url}
        signed = await sign_all(lambda key: self._core.addresses.sign("GET", key, **options), keys)
        urls = dict(zip(paths, signed, strict=True))
        return urls if isinstance(file_path, list) else urls[file_path]

    @rpc_method
    async def put_file_start_multipart(
        self, file_path: str, part_count: Any, expires_in: Any = 3600, ttl: Any = None, *, context: Caller
    ) -> dict[str, Any]:
        """
        Begin to upload a file in parts, and return an address for each of them.

        Args:
            file_path: where the file will be
            part_count: how many parts, at most 10000
            expires_in: seconds that there are for it
            ttl: seconds after which the file is deleted; none or 0: never

        """
        key = check_writable_key(await self._key(context, file_path, Permission.READ_WRITE))
        return await begin_upload(self._core, self._uploads, key, part_count, expires_in, ttl=_ttls(ttl, 1)[0])

    @rpc_method
    async def put_file_complete_multipart(self, upload_id: str, parts: Any, *, context: Caller) -> dict[str, Any]:
        """
        Join the parts of an upload.

        Args:
            upload_id: as put_file_start_multipart gave it
            parts: a list of {part_number, etag}: the ETag that each PUT was answered with

        """
        await self._rights.check(context.principal, context.workspace, Permission.READ_WRITE)
        upload = await self._uploads.find(context.workspace, upload_id)
        found = await self._uploads.complete(upload, read_parts(parts))
        location = f"{self._core.settings.public_base_url}/s3/{self._core.store.bucket}/{upload.key}"
        return {
            "success": True,
            "message": "File uploaded successfully",
            "etag": "" if found is None else f'"{found.etag}"',
            "location": location,
        }

    @rpc_method
    async def remove_file(self, path: str, *, context: Caller) -> dict[str, Any]:
        """
        Delete a file, or a folder with all that is in it.

        Args:
            path: a file or a folder; what ends with a slash is a folder

        """
        key = await self._key(context, path, Permission.READ_WRITE, folder=path.endswith("/"))
        folder = check_writable_key(f"{key.removesuffix('/')}/")
        if not key.endswith("/") and await self._objects.find(key) is not None:
            await self._objects.delete([key])
            return {"success": True, "message": f"File deleted successfully: {path}"}
        if await self._objects.delete_below(folder):
            return {"success": True, "message": f"Directory deleted successfully: {path}"}
        return {"success": False, "message": f"Path does not exist: {path}"}

    @rpc_method
    async def delete_file(self, path: str, *, context: Caller) -> dict[str, Any]:
        """
        Delete a file; deprecated, use remove_file.

        Args:
            path: the file

        """
        if path.endswith("/"):
            raise BadRequest("Path should not end with a slash for file", rpc_type="AssertionError")
        await self._objects.delete([check_writable_key(await self._key(context, path, Permission.READ_WRITE))])
        return {"success": True}

    @rpc_method
    async def delete_directory(self, path: str, *, context: Caller) -> dict[str, Any]:
        """
        Delete a folder with all that is in it; deprecated, use remove_file.

        Args:
            path: the folder, with a slash at its end

        """
        if not path.endswith("/"):
            raise BadRequest("Path should end with a slash for directory", rpc_type="AssertionError")
        prefix = await self._key(context, path, Permission.READ_WRITE, folder=True)
        await self._objects.delete_below(check_writable_key(prefix))
        return {"success": True}

    @rpc_method
    async def generate_presigned_url(
        self, path: str, client_method: str = "get_object", expiration: Any = 3600, *, context: Caller
    ) -> str:
        """
        Return an address that does one thing with a file.

        Args:
            path: the file
            client_method: get_object, or put_object
            expiration: seconds that the address can be used

        """
        if client_method not in ("get_object", "put_object"):
            raise PermissionDenied(f"client_method must be get_object or put_object, not {client_method!r}")
        if client_method == "get_object":
            key = await self._key(context, path, Permission.READ)
            return self._core.addresses.sign("GET", key, expires_in=expiration)
        key = check_writable_key(await self._key(context, path, Permission.READ_WRITE))
        if self._core.addresses.is_direct():
            await self._objects.check_free(key)
        return self._core.addresses.sign("PUT", key, expires_in=expiration)

    @rpc_method
    async def generate_credential(self, *, context: Caller) -> dict[str, Any]:
        """
        Return credentials for S3 clients, for the files of this workspace at this server's own ``/s3``.

        They are good for as long as the token of whoever asks.

        """
        principal, workspace = context.principal, context.workspace
        await self._rights.check(principal, workspace, Permission.READ_WRITE)
        person = principal.parent or principal.id  # who is blocked, if anybody
        made = await self._credentials.add(workspace, person, read_only=False, expires_at=principal.expires_at)
        settings = self._core.settings
        return {
            "endpoint_url": f"{settings.public_base_url}/s3",
            "access_key_id": made.access_key_id,
            "secret_access_key": workspace_secret(settings, made.access_key_id),
            "region_name": settings.region_name,
            "bucket": self._core.store.bucket,
            "prefix": f"{workspace}/",
        }

    async def _key(self, context: Caller, path: object, needed: Permission, *, folder: bool = False) -> str:
        """Return the key of a path for somebody who may do something with it. Raises as Rights and workspace_key do."""
        key = workspace_key(context.principal, context.workspace, path, folder=folder)
        await self._rights.check(context.principal, context.workspace, needed)
        return key


async def begin_upload(
    core: Core,
    uploads: Uploads,
    key: str,
    part_count: object,
    expires_in: object,
    *,
    ttl: float = 0,
    use_proxy: object = None,
    use_local_url: object = False,
) -> dict[str, Any]:
    """Begin a multipart upload and return its id with an address for each part."""
    try:
        count = as_count("part_count", part_count, least=1, most=MAX_PARTS)
    except BadRequest:
        raise BadRequest(f"part_count must be between 1 and {MAX_PARTS}") from None
    life_s = as_expiry(expires_in)
    upload = await uploads.begin(key, content_type=media_type(None, key), life_s=life_s, ttl=ttl or None)
    options: dict[str, Any] = {"expires_in": life_s, "use_proxy": use_proxy, "use_local_url": use_local_url}

    def sign(number: int) -> str:
        return core.addresses.sign(
            "PUT", key, query=[("partNumber", str(number)), ("uploadId", upload.store_id)], **options
        )

    urls = await sign_all(sign, range(1, count + 1))
    parts = [{"part_number": number, "url": url} for number, url in enumerate(urls, 1)]
    return {"upload_id": upload.id, "parts": parts}


def _paths(file_path: object) -> list[str]:
    paths: list[Any] = file_path if isinstance(file_path, list) else [file_path]
    if not paths:
        raise BadRequest("file_path list must contain at least one path")
    if not all(isinstance(path, str) for path in paths):
        raise BadRequest("file_path must be text, or a list of texts")
    return paths


def _ttls(ttl: object, count: int) -> list[float]:
    """Return how long each of so many files is to live in seconds; 0: for ever. Raises BadRequest."""
    lives = ttl if isinstance(ttl, list) else [ttl] * count
    if len(lives) != count:
        raise BadRequest(f"ttl list length ({len(lives)}) must match file_path list length ({count})")
    numbers = []
    for life in lives:
        number = float(life) if isinstance(life, str) and life.isdecimal() else life
        if number is None:
            number = 0
        if isinstance(number, bool) or not isinstance(number, (int, float)) or not 0 <= number <= _MAX_TTL_S:
            raise BadRequest(f"ttl must be between 0 and {_MAX_TTL_S} seconds, not {life!r}")
        numbers.append(float(number))
    return numbers
