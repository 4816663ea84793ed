from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from hypha_common.errors import BadRequest

from .languages import JAVASCRIPT, PYTHON, language
from .markup import Element, elements

__all__ = ["Plugin", "read_plugin"]

# Fields that may have a value for each tag of the plugin (contract 03 §1.4).
_BY_TAG = (
    "base_frame",
    "base_worker",
    "cover",
    "dependencies",
    "env",
    "flags",
    "icon",
    "labels",
    "passive",
    "requirements",
    "type",
    "ui",
)
_FILE_NAMES = {JAVASCRIPT: "main.js", PYTHON: "main.py"}


@dataclass(frozen=True, slots=True)
class Plugin:
    """What a plugin file of ImJoy or Hypha says, for the tag that was chosen."""

    config: dict[str, Any]
    script_name: str  # main.js or main.py; empty: it has no script
    script: str
    style: str
    window: str  # HTML for the body of the page


def read_plugin(source: str, tag: str | None = None, *, default_lang: str = "") -> Plugin:
    """
    Read a plugin file. Raises BadRequest.

    ``tag`` chooses the script and the values of fields; without it, the first tag does. ``default_lang`` is that of a
    ``<config>`` which names none; empty: that is an error.

    """
    sections = list(elements(source))
    config = _config(sections, default_lang)
    chosen = _choose_tag(config, tag)
    _resolve(config, chosen, strict=not default_lang)
    if docs := _text(sections, "docs"):
        config.setdefault("docs", docs)
    style, window = _text(sections, "style"), _text(sections, "window")
    script = _script(sections, chosen)
    if script is None:
        return Plugin(config, "", "", style, window)
    name = _FILE_NAMES[language(script.attributes.get("lang") or JAVASCRIPT)]
    return Plugin(config, name, script.text, style, window)


def _config(sections: list[Element], default_lang: str) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for section in sections:
        if section.tag in ("config", "manifest"):
            merged.update(_read_map(section, (section.attributes.get("lang") or default_lang).lower()))
    return merged


def _read_map(section: Element, kind: str) -> dict[str, Any]:
    what = f"<{section.tag}>"
    try:
        if kind == "json":
            value = json.loads(section.text)
        elif kind in ("yaml", "yml"):
            # A few lines of aliases stand for gigabytes.
            if any(isinstance(token, yaml.AliasToken) for token in yaml.scan(section.text)):
                raise BadRequest(f"{what} has an alias, which is not supported")
            value = json.loads(json.dumps(yaml.safe_load(section.text), default=str))
        else:
            raise BadRequest(f'{what} must have lang="json" or lang="yaml"')
    except (ValueError, TypeError, RecursionError, yaml.YAMLError) as error:
        raise BadRequest(f"{what} is not {kind}: {error}") from None
    if not isinstance(value, dict):
        raise BadRequest(f"{what} must hold a map")
    return value


def _choose_tag(config: Mapping[str, Any], wanted: str | None) -> str | None:
    tags = config.get("tags") or []
    if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
        raise BadRequest("'tags' must be a list of names")
    if wanted is not None and wanted not in tags:
        raise BadRequest(f"There is no tag '{wanted}'; the plugin has: {', '.join(tags) or 'none'}")
    return wanted or (tags[0] if tags else None)


def _resolve(config: dict[str, Any], tag: str | None, *, strict: bool) -> None:
    """Put the value for the tag in the place of maps that have one for each; other maps stay as they are."""
    for name in _BY_TAG:
        values = config.get(name)
        if not isinstance(values, dict):
            continue
        if tag is None:
            if strict:
                raise BadRequest(f"'{name}' has a value for each tag, but the plugin declares no tags")
        elif set(values) <= set(config["tags"]):
            config[name] = values.get(tag)


def _script(sections: list[Element], tag: str | None) -> Element | None:
    scripts = [section for section in sections if section.tag == "script"]
    matching = [script for script in scripts if tag is not None and script.attributes.get("tag") == tag]
    return next(iter(matching or scripts), None)


def _text(sections: list[Element], tag: str) -> str:
    return "\n".join(section.text for section in sections if section.tag == tag)
