from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypha_artifacts.actor import Actor
from hypha_artifacts.addresses import as_expiry, as_switch
from hypha_artifacts.blobs import check_path
from hypha_artifacts.files.arguments import as_count, as_folder, as_paths, as_weights, check_branch
from hypha_artifacts.files.draft_rows import NotStaged
from hypha_artifacts.files.reader import weight_of
from hypha_artifacts.files.signing import sign_all
from hypha_artifacts.files.view import view_of
from hypha_common.rpc.service import rpc_method

if TYPE_CHECKING:
    from hypha_artifacts.core import Core
    from hypha_artifacts.files.file_rows import FileRow
    from hypha_artifacts.files.reader import FileReader
    from hypha_artifacts.files.writer import FileWriter
    from hypha_common.rpc.caller import Caller

__all__ = ["MAX_LISTED", "Files"]

MAX_LISTED = 100_000  # entries of one page

Switch = bool | str | None  # over HTTP arguments are text


class Files:
    """Methods of the artifact manager for files (contract 02 §2.3); the bytes do not come by here."""

    def __init__(self, core: Core, reader: FileReader, writer: FileWriter) -> None:
        self._core = core
        self._reader = reader
        self._writer = writer

    @rpc_method
    async def put_file(
        self,
        artifact_id: str,
        file_path: str | list[str],
        download_weight: float | str | list[float] = 0,
        use_proxy: Switch = None,
        use_local_url: Switch = False,
        expires_in: float | str = 3600,
        branch: str | None = None,
        *,
        context: Caller,
    ) -> Any:
        """
        Return an address to PUT a file of the draft to, or {path: address} for a list of paths.

        Args:
            artifact_id: The artifact, which must be in staging mode.
            file_path: Path in the artifact, or a list of paths.
            download_weight: What one download of the file counts for, or a list of that.
            use_proxy: Whether the address leads to this server (true) or to the store (false).
            use_local_url: Whether to name the server as it is reached on its own machine, or an address to use instead.
            expires_in: Life of the address in seconds.
            branch: Not supported.

        """
        check_branch(branch)
        paths = as_paths(file_path)
        weighed = zip(paths, as_weights(download_weight, len(paths)), strict=True)
        weights = {path: weight for (_, path), weight in weighed}
        expires_s = as_expiry(expires_in)
        options: dict[str, Any] = {"use_proxy": use_proxy, "use_local_url": use_local_url, "expires_in": expires_s}
        sign, direct = self._core.addresses.sign, self._core.addresses.is_direct(use_proxy)
        sign("PUT", "", **options)  # refuses bad arguments before anything is staged
        artifact = await self._core.access.find(artifact_id, "put_file", Actor.of(context))
        blobs = await self._writer.announce(artifact, weights, writable_s=expires_s, direct=direct)
        signed = await sign_all(lambda blob: sign("PUT", blob.key, **options), blobs.values())
        return _answer(file_path, paths, dict(zip(blobs, signed, strict=True)))

    @rpc_method
    async def get_file(
        self,
        artifact_id: str,
        file_path: str | list[str],
        silent: Switch = False,
        version: str | int | None = None,
        stage: Switch = False,
        branch: str | None = None,
        use_proxy: Switch = None,
        use_local_url: Switch = False,
        expires_in: float | str = 3600,
        *,
        context: Caller,
    ) -> Any:
        """
        Return an address to GET a file from, or {path: address} for a list of paths.

        Args:
            artifact_id: The artifact.
            file_path: Path in the artifact, or a list of paths.
            silent: Whether not to count this as a download.
            version: A version's name or index; `stage` is the draft. Default: the newest.
            stage: Whether the draft is meant.
            branch: Not supported.
            use_proxy: Whether the address leads to this server (true) or to the store (false).
            use_local_url: Whether to name the server as it is reached on its own machine, or an address to use instead.
            expires_in: Life of the address in seconds.

        """
        check_branch(branch)
        paths = as_paths(file_path)
        quiet, staged = as_switch("silent", silent), as_switch("stage", stage)
        options: dict[str, Any] = {"use_proxy": use_proxy, "use_local_url": use_local_url, "expires_in": expires_in}
        artifact = await self._core.access.find(artifact_id, "get_file", Actor.of(context))
        wanted = list(dict.fromkeys(path for _, path in paths))
        files = await self._reader.find(artifact, view_of(artifact, version, staged), wanted)
        direct = self._core.addresses.is_direct(use_proxy)

        def sign(file: FileRow) -> str:
            # The store does not remember what kind of file it is; our own /s3 knows.
            query = [("response-content-type", file.content_type)] if direct and file.content_type else []
            return self._core.addresses.sign("GET", file.key, query=query, **options)

        addresses = await sign_all(sign, files)
        if not quiet:
            self._core.counters.downloaded(artifact.id, weight_of(artifact, wanted))
        return _answer(file_path, paths, dict(zip(wanted, addresses, strict=True)))

    @rpc_method
    async def remove_file(
        self, artifact_id: str, file_path: str, branch: str | None = None, *, context: Caller
    ) -> None:
        """
        Remove a file from the draft; it is gone for readers with the commit.

        Args:
            artifact_id: The artifact, which must be in staging mode.
            file_path: Path in the artifact; one that is not there is no error.
            branch: Not supported.

        """
        check_branch(branch)
        path = check_path(file_path)
        artifact = await self._core.access.find(artifact_id, "remove_file", Actor.of(context))
        if artifact.draft is None:
            raise NotStaged
        await self._writer.remove(artifact, path)

    @rpc_method
    async def list_files(
        self,
        artifact_id: str,
        dir_path: str | None = None,
        limit: int | str = 1000,
        version: str | int | None = None,
        stage: Switch = False,
        branch: str | None = None,
        include_pending: Switch = False,
        offset: int | str = 0,
        *,
        context: Caller,
    ) -> list[dict[str, Any]]:
        """
        Return what is in a folder, one level: files, then folders, each sorted by name.

        Args:
            artifact_id: The artifact.
            dir_path: Path of the folder. Default: the root.
            limit: How many entries at most.
            version: A version's name or index; `stage` is the draft. Default: the newest.
            stage: Whether the draft is meant.
            branch: Not supported.
            include_pending: Whether to list staged files, too, that have not been uploaded yet.
            offset: How many entries to leave out.

        """
        check_branch(branch)
        folder, staged = as_folder(dir_path), as_switch("stage", stage)
        most, first = as_count("limit", limit, most=MAX_LISTED), as_count("offset", offset, most=2**31)
        pending = bool(as_switch("include_pending", include_pending))
        artifact = await self._core.access.find(artifact_id, "list_files", Actor.of(context))
        view = view_of(artifact, version, staged)
        return await self._reader.list(artifact, view, folder, limit=most, offset=first, pending=pending)


def _answer(asked: str | list[str], paths: list[tuple[str, str]], addresses: dict[str, str]) -> str | dict[str, str]:
    """Return the address of a path, or those of a list by its paths as they were given."""
    if isinstance(asked, str):
        return addresses[paths[0][1]]
    return {given: addresses[path] for given, path in paths}
