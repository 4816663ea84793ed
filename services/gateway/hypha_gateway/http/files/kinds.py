from __future__ import annotations

from dataclasses import dataclass

from .failures import ErrorForm, as_detail, as_failure, as_xml

__all__ = ["KINDS", "Kind"]

_JSON_BYTES = 1024 * 1024
_S3_BYTES = 2 * 1024 * 1024

# Extra scopes of tokens that are for one file, or the files of one artifact (contract 02 §1.9).
_FILE_SCOPES = ("get_file:", "put_file:")


@dataclass(frozen=True, slots=True)
class Kind:
    """What there is to know of a route for files before the artifacts service is asked."""

    name: str  # of HttpCall.route
    errors: ErrorForm = as_detail
    token_in_query: bool = False
    scopes: tuple[str, ...] = ()  # of specialized tokens that it takes
    max_body_bytes: int = _JSON_BYTES  # of a body that the artifacts service reads
    signed: bool = False  # the request bears a signature in place of a token


KINDS = {
    kind.name: kind
    for kind in (
        Kind("artifacts"),
        Kind("artifact"),
        Kind("artifact_children"),
        Kind("artifact_search"),
        Kind("artifact_files", token_in_query=True, scopes=_FILE_SCOPES),
        Kind("artifact_create_upload"),
        Kind("artifact_complete_upload"),
        Kind("artifact_zip", token_in_query=True),
        Kind("artifact_zip_files", token_in_query=True, errors=as_failure),
        Kind("artifact_view", token_in_query=True),
        Kind("workspace_files", errors=as_failure, token_in_query=True),
        Kind("workspace_create_upload", errors=as_failure),
        Kind("workspace_complete_upload", errors=as_failure),
        Kind("s3", errors=as_xml, max_body_bytes=_S3_BYTES, signed=True),
    )
}
