from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from playwright.async_api import Error

__all__ = ["plain", "reason", "thrown", "told"]


def reason(error: BaseException) -> str:
    """Return the first line of what Playwright says, without the call that it was about."""
    text = (str(error).strip() or repr(error)).splitlines()[0]
    return text.partition(": ")[2] if text.startswith(("Page.", "BrowserContext.", "Route.")) else text


def told(error: Error) -> str:
    """Return what a page's error says, and where it was; stacks do not always begin with what it says."""
    said, stack = f"{error.name or 'Error'}: {error.message}", error.stack or ""
    return stack if stack.startswith(said) else f"{said}\n{stack}".rstrip()


def thrown(error: BaseException) -> str:
    """Return what JavaScript threw, in one line, without where: that is in the log."""
    text = str(error).removeprefix("Page.evaluate: ").partition("\n    at ")[0]
    return " ".join(text.split())


def plain(value: Any) -> Any:
    """Return what RPC can carry: dates and addresses, which JavaScript may return, as text."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value if value is None or isinstance(value, (str, int, float, bool)) else str(value)
