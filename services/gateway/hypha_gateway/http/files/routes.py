from __future__ import annotations

from starlette.convertors import Convertor, register_url_convertor
from starlette.routing import Route

from hypha_gateway.http.openapi import Operation, describes

from . import operations
from .endpoint import FileEndpoint
from .kinds import KINDS

__all__ = ["file_routes", "s3_routes"]

_READ = ("GET", "HEAD")
_ARTIFACTS = "/{workspace}/artifacts"
_ARTIFACT = "/{workspace}/artifacts/{alias}"
_S3_METHODS = ("DELETE", "GET", "HEAD", "POST", "PUT")


class _Path(Convertor[str]):
    """The rest of a path, whatever is in it: a line break, too, is for the artifacts service to refuse."""

    regex = r"[\s\S]*"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("file", _Path())


def file_routes() -> list[Route]:
    """Return the routes of artifacts and of the files of workspaces (contract 02 §3, §4.5)."""
    return [
        *_both(_ARTIFACTS, "artifacts", operations.ARTIFACTS),
        *_both(f"{_ARTIFACTS}/-/search", "artifact_search", operations.SEARCH),
        *_both(_ARTIFACT, "artifact", operations.ARTIFACT),
        *_both(f"{_ARTIFACT}/children", "artifact_children", operations.CHILDREN),
        *_both(f"{_ARTIFACT}/files", "artifact_files", operations.ARTIFACT_ROOT),
        _route(f"{_ARTIFACT}/files/{{path:file}}", "artifact_files", operations.ARTIFACT_FILE, put=operations.PUT_FILE),
        _post(f"{_ARTIFACT}/create-multipart-upload", "artifact_create_upload", operations.CREATE_UPLOAD),
        _post(f"{_ARTIFACT}/complete-multipart-upload", "artifact_complete_upload", operations.COMPLETE_UPLOAD),
        _route(f"{_ARTIFACT}/create-zip-file", "artifact_zip", operations.ZIP),
        _route(f"{_ARTIFACT}/zip-files/{{path:file}}", "artifact_zip_files", operations.ZIP_FILES),
        _route("/{workspace}/view/{alias}", "artifact_view", operations.VIEW),
        _route("/{workspace}/view/{alias}/{path:file}", "artifact_view", operations.VIEW),
        # Before files: the same words are names of files for the other methods.
        *(
            _post(f"/{{workspace}}{folder}/{action}-multipart-upload", f"workspace_{action}_upload", operation)
            for folder in ("", "/files")
            for action, operation in (
                ("create", operations.CREATE_UPLOAD),
                ("complete", operations.COMPLETE_UPLOAD),
            )
        ),
        *_both("/{workspace}/files", "workspace_files", operations.WORKSPACE_ROOT, delete=operations.DELETE_FILE),
        _route(
            "/{workspace}/files/{path:file}", "workspace_files", operations.WORKSPACE_FILE,
            put=operations.PUT_FILE, delete=operations.DELETE_FILE,
        ),
    ]  # fmt: skip


def s3_routes() -> list[Route]:
    """Return the routes of the S3 interface (contract 02 §4.6)."""
    methods = {name.lower(): operations.S3 for name in _S3_METHODS if name not in _READ}
    paths = ("/s3", "/s3/", "/s3/{bucket}", "/s3/{bucket}/{key:file}")
    return [_route(path, "s3", operations.S3, **methods) for path in paths]


def _both(path: str, name: str, operation: Operation, **methods: Operation) -> list[Route]:
    """Return the routes of something that is found with a slash at its end and without."""
    return [_route(path, name, operation, **methods), _route(f"{path}/", name, operation, **methods)]


def _route(path: str, name: str, operation: Operation, **methods: Operation) -> Route:
    endpoint = describes(operation, **methods)(FileEndpoint(KINDS[name]))
    return Route(path, endpoint, methods=[*_READ, *(method.upper() for method in methods)], name=name)


def _post(path: str, name: str, operation: Operation) -> Route:
    return Route(path, describes(operation)(FileEndpoint(KINDS[name])), methods=["POST"], name=name)
