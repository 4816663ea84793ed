from __future__ import annotations

from hypha_common.errors import HyphaError, NotFound, Unavailable
from hypha_common.plans import Headers, Reply

from .xml import document

__all__ = ["S3Error", "error_reply", "s3_error_of"]

_STATUS = {
    "BucketAlreadyOwnedByYou": 409,
    "EntityTooLarge": 400,
    "ExpiredToken": 400,
    "InternalError": 500,
    "InvalidAccessKeyId": 403,
    "InvalidRange": 416,
    "MethodNotAllowed": 405,
    "NoSuchBucket": 404,
    "NoSuchKey": 404,
    "NoSuchUpload": 404,
    "NotImplemented": 501,
    "OperationAborted": 409,  # a file where a folder is, or one that is committed
    "PreconditionFailed": 412,
    "RequestTimeTooSkewed": 403,
    "ServiceUnavailable": 503,
    "SignatureDoesNotMatch": 403,
    "AccessDenied": 403,
}


class S3Error(Exception):
    """A fault by its name in the S3 API; names that are not listed are faults of the request (400)."""

    def __init__(self, code: str, message: str, *, headers: Headers | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = _STATUS.get(code, 400)
        self.headers = headers or []


def s3_error_of(error: HyphaError) -> S3Error:
    """Return what S3 clients read of an error of ours; 5xx is what they try again."""
    if isinstance(error, NotFound):
        return S3Error("NoSuchKey", str(error))
    if isinstance(error, Unavailable) or error.status >= 500:
        return S3Error("ServiceUnavailable", str(error))
    code = {403: "AccessDenied", 409: "OperationAborted"}.get(error.status, "InvalidRequest")
    return S3Error(code, str(error))


def error_reply(error: S3Error, resource: str) -> Reply:
    """Return the answer that tells of a fault; ``resource`` is the path that was asked for."""
    body = document("Error", [("Code", error.code), ("Message", error.message), ("Resource", resource)], namespace="")
    return Reply(error.status, [("content-type", "application/xml"), *error.headers], body)
