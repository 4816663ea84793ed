"""XML as S3 clients write and read it. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TypeAlias, Union
from xml.etree import ElementTree
from xml.sax.saxutils import escape

__all__ = ["Nodes", "document", "parse"]

NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"

Nodes: TypeAlias = Iterable[tuple[str, Union[str, "Nodes"]]]

_NOT_XML = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def document(name: str, content: str | Nodes, *, namespace: str = NAMESPACE) -> bytes:
    """Return a document whose root is called ``name``."""
    start = f'<{name} xmlns="{namespace}">' if namespace else f"<{name}>"
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{start}{_written(content)}</{name}>'.encode()


def parse(body: bytes, root: str) -> ElementTree.Element:
    """
    Return the root of a document without its namespaces. Raises ValueError.

    Documents that define entities are refused: nothing of S3 does, and those that do mean harm.

    """
    if b"<!" in body:
        raise ValueError("the document has a declaration")
    try:
        found = ElementTree.fromstring(body)  # noqa: S314  # without declarations there is nothing to expand
    except (ElementTree.ParseError, LookupError, ValueError) as error:
        raise ValueError(f"the document is not XML: {error}") from None
    for element in found.iter():
        element.tag = element.tag.rpartition("}")[2]
    if found.tag != root:
        raise ValueError(f"the document is a {found.tag}, not a {root}")
    return found


def _written(content: str | Nodes) -> str:
    if isinstance(content, str):
        return escape(_NOT_XML.sub("\ufffd", content))
    return "".join(f"<{name}>{_written(inner)}</{name}>" for name, inner in content)
