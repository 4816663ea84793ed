"""The description of the HTTP interface: each route's stands next to its handler, :mod:`.document` collects them."""

from __future__ import annotations

from .operation import ANY_STATUS, Answer, Body, Operation, Parameter, describes, operation_of

__all__ = ["ANY_STATUS", "Answer", "Body", "Operation", "Parameter", "describes", "operation_of"]
