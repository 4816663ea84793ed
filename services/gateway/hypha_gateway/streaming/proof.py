from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from dataclasses import asdict, dataclass

from hypha_common.errors import BadRequest, PermissionDenied
from hypha_common.ids import Address

__all__ = ["Proof", "StreamKey", "cookie_name", "digest"]

_NOT_THE_OPENER = "Only the client that opened the stream of {} may send for it"


@dataclass(frozen=True, slots=True)
class Proof:
    """
    What a POST shows of who sends it: made at the gateway where it arrives, judged at the one that holds the stream.

    """

    token: str = ""  # digest of its bearer token
    user: str = ""  # whose token that is, where it is good and not bound to another client
    cookie: str = ""
    address: str = ""

    def dump(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def load(cls, text: str) -> Proof:
        """Rebuild what :meth:`dump` wrote. Raises BadRequest."""
        try:
            return cls(**json.loads(text))
        except (TypeError, ValueError) as error:
            raise BadRequest(f"Invalid proof: {error}") from None


class StreamKey:
    """
    Decides who may speak for a stream. Workspace and client id are no secret: everybody the client talks to knows them.

    A stream that was opened with a token belongs to the bearer of that token, and to its user. One without is given a
    cookie. Clients that keep no cookies (scripts in Node, pages of other origins) have nothing else to show: for them
    the address counts, for as long as no POST of theirs has brought the cookie.

    """

    def __init__(self, *, token: str | None, address: str) -> None:
        self.cookie = secrets.token_urlsafe(18)
        self._token = digest(token)
        self._address = address
        self._keeps_cookies = False

    def expect_cookie(self) -> None:
        """The client is one that keeps cookies: nothing else will do."""
        self._keeps_cookies = True

    def check(self, proof: Proof, client: Address, user: str) -> None:
        """Raise PermissionDenied unless the sender of a POST is the ``client`` of this stream, who is ``user``."""
        if proof.user and proof.user == user:
            return
        if self._token:
            if proof.token and hmac.compare_digest(proof.token, self._token):
                return
        elif proof.cookie and hmac.compare_digest(proof.cookie.encode(), self.cookie.encode()):
            self.expect_cookie()
            return
        elif not self._keeps_cookies and proof.address == self._address:
            return
        raise PermissionDenied(_NOT_THE_OPENER.format(client))


def digest(token: str | None) -> str:
    """Return what tells one token from another without being one; of no token an empty text."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest() if token else ""


def cookie_name(client: Address) -> str:
    """Return the name of a stream's cookie: streams of one browser do not take it from each other."""
    return f"hypha-stream-{hashlib.sha256(str(client).encode()).hexdigest()[:16]}"
