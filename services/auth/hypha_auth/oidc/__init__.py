from __future__ import annotations

from .openid_connect import OpenIdConnect
from .verbs import OAuthVerbs

__all__ = ["OAuthVerbs", "OpenIdConnect"]
