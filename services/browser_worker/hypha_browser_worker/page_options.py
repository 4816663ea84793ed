from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from hypha_common.errors import BadRequest, ConfigurationError, HyphaError

__all__ = ["page_options", "pages_of_environment"]

_PREFIX = "PLAYWRIGHT_"
_WIDTH, _HEIGHT = 1280, 720
_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off"})


def page_options(operators: Mapping[str, Any], manifest: Mapping[str, Any]) -> dict[str, Any]:
    """
    Return what the browser context of an app is made with: what the operator says, then what the app says.

    Raises BadRequest for what is wrong in the manifest.

    """
    options = {
        "accept_downloads": False,
        "viewport": {"width": _WIDTH, "height": _HEIGHT},
        # Pages of all apps have one origin, and nobody sees what a service worker fetches.
        "service_workers": "block",
        **operators,
    }
    for name in ("bypass_csp", "ignore_https_errors"):
        if manifest.get(name) is not None:
            options[name] = bool(manifest[name])
    if headers := manifest.get("extra_http_headers"):
        both = {**_headers("extra_http_headers", headers, BadRequest), **options.get("extra_http_headers", {})}
        options["extra_http_headers"] = both
    return options


def pages_of_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    """Return what ``PLAYWRIGHT_*`` variables say of all pages (contract 03 §2.11). Raises ConfigurationError."""

    def value(name: str, read: Callable[[str], Any]) -> Any:
        """Return what a variable says; None where it is not set."""
        text = environ.get(_PREFIX + name, "").strip()
        if not text:
            return None
        try:
            return read(text)
        except ValueError as error:
            raise ConfigurationError(f"{_PREFIX}{name} {error}") from None

    options = {name: value(name.upper(), read) for name, read in _SIMPLE.items()}
    options["java_script_enabled"] = value("JAVASCRIPT_ENABLED", _switch)
    width, height = value("VIEWPORT_WIDTH", _pixels), value("VIEWPORT_HEIGHT", _pixels)
    if width or height:
        options["viewport"] = {"width": width or _WIDTH, "height": height or _HEIGHT}
    latitude, longitude = value("GEOLOCATION_LATITUDE", _number), value("GEOLOCATION_LONGITUDE", _number)
    if latitude is not None and longitude is not None:
        accuracy = value("GEOLOCATION_ACCURACY", _number) or 0
        options["geolocation"] = {"latitude": latitude, "longitude": longitude, "accuracy": accuracy}
    username, password = value("HTTP_USERNAME", str), value("HTTP_PASSWORD", str)
    if username is not None and password is not None:
        options["http_credentials"] = {"username": username, "password": password}
    return {name: found for name, found in options.items() if found is not None}


def _switch(text: str) -> bool:
    if text.lower() in _TRUE:
        return True
    if text.lower() in _FALSE:
        return False
    raise ValueError("must be true or false")


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError("must be a number") from None


def _pixels(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) <= 16384:
        raise ValueError("must be a number of pixels")
    return int(text)


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _one_of(*words: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in words:
            raise ValueError(f"must be one of {', '.join(words)}")
        return text

    return read


def _json_headers(text: str) -> dict[str, str]:
    try:
        found = json.loads(text)
    except ValueError:
        raise ValueError("must be JSON") from None
    return _headers("EXTRA_HTTP_HEADERS", found, ConfigurationError)


def _headers(name: str, value: object, error: type[HyphaError]) -> dict[str, str]:
    if not isinstance(value, Mapping) or not all(isinstance(text, str) for pair in value.items() for text in pair):
        raise error(f"{name} must be a map of header names to texts")
    return dict(value)


_SIMPLE: dict[str, Callable[[str], Any]] = {
    "accept_downloads": _switch,
    "base_url": str,
    "bypass_csp": _switch,
    "color_scheme": _one_of("light", "dark", "no-preference"),
    "device_scale_factor": _number,
    "extra_http_headers": _json_headers,
    "has_touch": _switch,
    "ignore_https_errors": _switch,
    "is_mobile": _switch,
    "locale": str,
    "offline": _switch,
    "permissions": _words,
    "reduced_motion": _one_of("reduce", "no-preference"),
    "timezone_id": str,
    "user_agent": str,
}
