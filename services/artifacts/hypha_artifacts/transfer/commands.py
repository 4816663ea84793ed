from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Coroutine
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hypha_common.errors import BadRequest, HyphaError, NotFound, PermissionDenied

from .download import Download, DownloadOptions
from .hub import Hub, RemoteFile
from .local_files import LocalFile, Skipped, find_files
from .progress import Progress, shown_bytes
from .safe_folder import SafeFolder, readable_name
from .target import Target, check_server_url
from .upload import Upload, UploadOptions

if TYPE_CHECKING:
    import argparse
    from collections import Counter

__all__ = ["get", "put"]

_INTERRUPTED = 130  # as a shell says it
_MIB = 2**20


def put(parsed: argparse.Namespace) -> int:
    """Send files; returns the exit status."""
    source = Path(parsed.source)
    return _run(_put(parsed, list(find_files(source)), is_file=source.is_file()))


def get(parsed: argparse.Namespace) -> int:
    """Get files; returns the exit status."""
    return _run(_get(parsed))


async def _put(parsed: argparse.Namespace, found: list[LocalFile | Skipped], *, is_file: bool) -> int:
    target = Target.parse(parsed.target)
    options = UploadOptions(
        create=parsed.create, type=parsed.type, parent=parsed.parent, version=parsed.version, comment=parsed.comment,
        commit=parsed.commit, skip=not parsed.no_skip, multipart_bytes=parsed.multipart_size * _MIB,
        part_bytes=parsed.part_size * _MIB,
    )  # fmt: skip
    files = [one for one in found if isinstance(one, LocalFile)]
    for skipped in found:
        if isinstance(skipped, Skipped):
            print(f"skipped {skipped.name}: {skipped.why}", file=sys.stderr)  # noqa: T201
    paths = {file: target.below(file.name) for file in files}
    if is_file and target.path and not target.path.endswith("/"):
        paths = dict.fromkeys(files, target.path)
    async with _hub(parsed) as hub:
        with Progress("put", sum(file.size for file in files), quiet=parsed.quiet) as progress:
            upload = Upload(hub, target, options, progress)
            await upload.open_draft()
            await upload.send(files, paths)
        _tell(upload.failures, upload.done, "sent", "there", parsed)
        if upload.failures:
            return 1
        if options.commit:
            artifact = await upload.commit()
            versions = artifact.get("versions") or [{}]
            _say(f"committed {target.artifact_id} as {versions[-1].get('version')}", parsed)
    return 0


async def _get(parsed: argparse.Namespace) -> int:
    target = Target.parse(parsed.target)
    async with _hub(parsed) as hub:
        options = await _options(hub, target, parsed)
        files = await _wanted(hub, target, options)
        default = "." if len(files) == 1 and files[0][0].path == target.path else readable_name(target.alias)
        folder = SafeFolder(Path(parsed.folder or default))
        with Progress("get", sum(remote.size for remote, _ in files), quiet=parsed.quiet) as progress:
            download = Download(hub, target, folder, options, progress)
            await download.get(files)
    _tell(download.failures, download.done, "got", "here", parsed)
    return 1 if download.failures else 0


async def _options(hub: Hub, target: Target, parsed: argparse.Namespace) -> DownloadOptions:
    """Return options that name a version: all files are to be of the same, whatever is committed meanwhile."""
    version = parsed.version
    if version is None and not parsed.stage:
        with suppress(PermissionDenied):  # who may get files need not be one who may read the rest
            artifact = await hub.call("read", artifact_id=target.artifact_id, silent=True)
            versions = artifact.get("versions") or ()
            version = versions[-1]["version"] if versions else None
    return DownloadOptions(
        version=version, stage=parsed.stage, skip=not parsed.no_skip, checksum=not parsed.no_checksum
    )


async def _wanted(hub: Hub, target: Target, options: DownloadOptions) -> list[tuple[RemoteFile, str]]:
    """Return the files below the folder that is meant, or the one file, with the names they get. Raises NotFound."""
    folder = target.path.strip("/")
    found = [remote async for remote in hub.files(target, folder, **options.of)]
    if found or not target.path or target.path.endswith("/"):
        if not found and folder:
            raise NotFound(f"{target.artifact_id} has no folder {folder}")
        return [(remote, remote.path[len(folder) :].lstrip("/") if folder else remote.path) for remote in found]
    above, _, name = folder.rpartition("/")
    async for remote in hub.files(target, above, recursive=False, **options.of):
        if remote.path == folder:
            return [(remote, name)]
    raise NotFound(f"{target.artifact_id} has no file or folder {folder}")


def _hub(parsed: argparse.Namespace) -> Hub:
    url = check_server_url(parsed.server_url or os.environ.get("HYPHA_SERVER_URL"))
    token = parsed.token or os.environ.get("HYPHA_TOKEN")
    if parsed.connections < 1:
        raise BadRequest("--connections must be at least 1")
    return Hub(url, token or None, connections=parsed.connections)


def _run(work: Coroutine[Any, Any, int]) -> int:
    try:
        return asyncio.run(work)
    except KeyboardInterrupt:
        print("interrupted; the same command goes on where this one was", file=sys.stderr)  # noqa: T201
        return _INTERRUPTED
    except BaseExceptionGroup as failures:
        for failure in failures.exceptions:
            if isinstance(failure, HyphaError):
                raise failure from None
        raise


def _tell(failures: list[str], done: Counter[str], moved: str, kept: str, parsed: argparse.Namespace) -> None:
    for failure in failures:
        print(f"failed: {failure}", file=sys.stderr)  # noqa: T201 it talks to a person
    already = f", {done[kept]} were {kept} already" if done[kept] else ""
    already += f", {shown_bytes(done['resumed'])} of them before" if done["resumed"] else ""
    failed = f", {len(failures)} failed" if failures else ""
    _say(f"{moved} {done['files']} files, {shown_bytes(done['bytes'])}{already}{failed}", parsed)


def _say(text: str, parsed: argparse.Namespace) -> None:
    if not parsed.quiet:
        print(text)  # noqa: T201 it talks to a person
