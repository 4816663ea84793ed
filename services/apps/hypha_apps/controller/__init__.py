"""The service ``public/server-apps`` (contract 03 §1): its methods, by what they are about."""

from __future__ import annotations

from .service import create_service

__all__ = ["create_service"]
