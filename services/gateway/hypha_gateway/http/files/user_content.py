from __future__ import annotations

import re
from collections.abc import Iterable

from hypha_common.plans import Headers

__all__ = ["user_content_headers"]

# Not allow-same-origin: a page runs with an origin of its own, without the cookies and the storage of this server.
_SANDBOX = "sandbox allow-scripts allow-forms allow-popups allow-downloads allow-modals"
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9a-z-]+")
_RUN_SCRIPTS = ("text/html", "application/xhtml+xml", "text/xml", "application/xml", "text/xsl", "multipart/related")
# What users' pages must not decide: the cookies, caches and certificates of this server, its policy, and the framing.
_NOT_FOR_USERS = frozenset(
    {
        "clear-site-data",
        "connection",
        "content-length",
        "expect-ct",
        "keep-alive",
        "nel",
        "proxy-authenticate",
        "public-key-pins",
        "report-to",
        "reporting-endpoints",
        "service-worker-allowed",
        "set-cookie",
        "strict-transport-security",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "x-content-type-options",
    }
)


def user_content_headers(headers: Iterable[tuple[str, str]]) -> Headers:
    """
    Return the headers for something that users wrote, such that a browser does nothing in the name of this server.

    What may run scripts is sandboxed, nothing is taken for another type than it has, caches that several people share
    keep nothing. Headers that only the server may set are dropped, also ``access-control-…``, which the edge adds.

    """
    kept = [
        (name, value)
        for name, value in ((name.lower(), value) for name, value in headers)
        if _NAME.fullmatch(name) and name not in _NOT_FOR_USERS and not name.startswith("access-control-")
    ]
    given = dict(kept)
    kind = given.get("content-type", "").partition(";")[0].strip().lower()
    kept.append(("x-content-type-options", "nosniff"))
    if kind in _RUN_SCRIPTS or kind.endswith("+xml"):
        kept.append(("content-security-policy", _SANDBOX))
    if "cache-control" not in given:
        kept.append(("cache-control", "private, no-cache"))
    return kept
