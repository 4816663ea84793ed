"""
What must not be written down, taken out of what libraries write down.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable

__all__ = ["ACCESS_LOGS", "keep_secrets_out", "without_secrets"]

# They write the whole address of each request, and with it what stands in its query.
ACCESS_LOGS = ("hypercorn.access", "uvicorn.access", "uvicorn.error")

_MASK = "********"
# Query parameters that let in whoever knows them: tokens of clients, keys of logins, codes of identity providers.
_NAMES = "access_token|code|code_verifier|id_token|key|login_key|password|reconnection_token|refresh_token|state|token"
_QUERY = re.compile(rf"(?i)([?&](?:{_NAMES})=)[^&\s\"'#]+")
_TOKEN = re.compile(r"eyJ[\w-]{6,}\.[\w-]{6,}\.[\w-]{6,}")  # a JSON web token, whoever signed it


def without_secrets(text: str) -> str:
    """Return a text without tokens, and without the secrets in the queries of the addresses in it."""
    if "=" in text:
        text = _QUERY.sub(rf"\g<1>{_MASK}", text)
    return _TOKEN.sub(_MASK, text) if "eyJ" in text else text


class _Filter(logging.Filter):
    """Masks secrets in the arguments of a record."""

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.msg, str):
            record.msg = without_secrets(record.msg)
        if isinstance(record.args, tuple):
            record.args = tuple(without_secrets(a) if isinstance(a, str) else a for a in record.args)
        elif record.args:
            # A mapping of hypercorn's, which looks values up as the line is made.
            record.msg, record.args = without_secrets(record.getMessage()), ()
        return True


def keep_secrets_out(names: Iterable[str] = ACCESS_LOGS) -> None:
    """Mask secrets in what these loggers write, whoever configures them."""
    for name in names:
        logger = logging.getLogger(name)
        if not any(isinstance(known, _Filter) for known in logger.filters):
            logger.addFilter(_Filter())
