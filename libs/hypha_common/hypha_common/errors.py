from __future__ import annotations

__all__ = [
    "BadRequest",
    "Blocked",
    "ConfigurationError",
    "Conflict",
    "DeadlineExceeded",
    "HyphaError",
    "InternalError",
    "NobodyServes",
    "NotAcceptable",
    "NotFound",
    "NotPermitted",
    "NotSupported",
    "PayloadTooLarge",
    "PeerNotFound",
    "PermissionDenied",
    "QuotaExceeded",
    "RequestTimeout",
    "StartFailed",
    "Unauthorized",
    "Unavailable",
    "UnsupportedMediaType",
    "error_from_wire",
]


class HyphaError(Exception):
    """
    Base of every fault that is answered to somebody.

    ``status`` is the HTTP status, ``code`` the stable machine-readable name, ``rpc_type`` the exception name that
    RPC clients read on the last line of a rejection (``KeyError: 'Service not found: …'``).

    """

    status: int = 500
    code: str = "internal"
    rpc_type: str = "Exception"

    def __init__(self, message: str, *, rpc_type: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        if rpc_type is not None:
            self.rpc_type = rpc_type

    def __str__(self) -> str:
        return self.message

    def rpc_text(self) -> str:
        """Return the last line of the rejection, as Python would print the exception."""
        # str(KeyError("x")) has quotes, and clients match on them: "KeyError: 'Service not found: …'".
        text = repr(self.message) if self.rpc_type == "KeyError" else self.message
        return f"{self.rpc_type}: {text}"

    def to_wire(self) -> dict[str, object]:
        """Return the map that carries this error between services: ``{code, message, rpc_type}``."""
        return {"code": self.code, "message": self.message, "rpc_type": self.rpc_type}


class ConfigurationError(HyphaError):
    """A setting that cannot be used; told to the operator before anything starts."""

    status, code, rpc_type = 500, "configuration", "ValueError"


class BadRequest(HyphaError):
    """What was asked for makes no sense: a wrong value, a wrong type, a name that cannot be one."""

    status, code, rpc_type = 400, "bad_request", "ValueError"


class Unauthorized(HyphaError):
    """The token is no good: unknown, expired, revoked, or meant for something else."""

    status, code, rpc_type = 401, "unauthorized", "PermissionError"


class PermissionDenied(HyphaError):
    """Whoever asks may not do this, here."""

    status, code, rpc_type = 403, "permission_denied", "PermissionError"


class Blocked(PermissionDenied):
    """Whoever asks is kept out, whatever is asked for."""

    code = "blocked"


class NotFound(HyphaError):
    """There is nothing of that name, or nothing that the caller may see."""

    status, code, rpc_type = 404, "not_found", "KeyError"


class NotAcceptable(HyphaError):
    """There is a result, but not in the format that was asked for."""

    status, code, rpc_type = 406, "not_acceptable", "ValueError"


class RequestTimeout(HyphaError):
    """The caller does not send what it announced."""

    status, code, rpc_type = 408, "request_timeout", "TimeoutError"


class Conflict(HyphaError):
    """What is there already stands in the way, or has been changed meanwhile."""

    status, code, rpc_type = 409, "conflict", "RuntimeError"


class PayloadTooLarge(HyphaError):
    """More bytes than a limit allows."""

    status, code, rpc_type = 413, "payload_too_large", "ValueError"


class UnsupportedMediaType(HyphaError):
    """A body of a type, or in an encoding, that is not understood."""

    status, code, rpc_type = 415, "unsupported_media_type", "ValueError"


class QuotaExceeded(HyphaError):
    """Too many, or too fast; the message says of what."""

    status, code, rpc_type = 429, "quota_exceeded", "RuntimeError"


class InternalError(HyphaError):
    """Something failed that should not, on this side or in the function that was called."""

    status, code, rpc_type = 500, "internal", "RuntimeError"


class StartFailed(HyphaError):
    """An app did not start: its worker refused, its code failed, or its service did not come in time."""

    status, code, rpc_type = 500, "start_failed", "RuntimeError"


class NotSupported(HyphaError):
    """What was asked for is known and not offered here."""

    status, code, rpc_type = 501, "not_supported", "NotImplementedError"


class PeerNotFound(HyphaError):
    """The addressed client is not connected anywhere."""

    status, code, rpc_type = 503, "peer_not_found", "ConnectionError"


class Unavailable(HyphaError):
    """A dependency or a replica is away; trying again may help."""

    status, code, rpc_type = 503, "unavailable", "ConnectionError"


class NobodyServes(Unavailable):
    """No process of the cluster listens at a subject."""


class NotPermitted(Unavailable):
    """The bus does not let this process in, or not do what it tried: its user is another role's, or nobody's."""


class NotBegun(Unavailable):
    """Whoever had a request has not begun it and will not: it stood still, and the asker may have given up since."""

    code = "not_begun"


class DeadlineExceeded(HyphaError):
    """No answer in time. Whether the call was executed is not known."""

    status, code, rpc_type = 504, "deadline_exceeded", "TimeoutError"


_BY_CODE: dict[str, type[HyphaError]] = {
    cls.code: cls
    for cls in (
        BadRequest,
        Unauthorized,
        PermissionDenied,
        Blocked,
        NotFound,
        NotAcceptable,
        Conflict,
        PayloadTooLarge,
        UnsupportedMediaType,
        QuotaExceeded,
        InternalError,
        StartFailed,
        NotSupported,
        PeerNotFound,
        Unavailable,
        NotBegun,
        DeadlineExceeded,
    )
}


def error_from_wire(data: dict[str, object]) -> HyphaError:
    """Rebuild the error that another service sent with :meth:`HyphaError.to_wire`."""
    cls = _BY_CODE.get(str(data.get("code")), InternalError)
    return cls(str(data.get("message", "")), rpc_type=str(data.get("rpc_type") or cls.rpc_type))
