from __future__ import annotations

import pytest

from hypha_auth.oidc.config import ProviderConfig
from hypha_common.errors import ConfigurationError
from hypha_common.settings import Settings
from hypha_common.trust import is_trustworthy


def config(**environ: str) -> ProviderConfig | None:
    return ProviderConfig.from_settings(Settings.load({}, environ=environ))


def test_nothing_is_switched_on_by_defaults() -> None:
    """The defaults of the Auth0 settings name somebody else's tenant; these three are also claims of our own tokens."""
    assert config() is None
    assert config(AUTH0_AUDIENCE="a", AUTH0_ISSUER="https://i.example.org/", AUTH0_NAMESPACE="https://n/") is None


def test_any_issuer() -> None:
    found = config(
        HYPHA_OIDC_ISSUER="https://accounts.example.org/realms/one",
        HYPHA_OIDC_CLIENT_ID="hub",
        HYPHA_OIDC_SCOPE="email openid email",
    )
    assert found is not None
    assert (found.issuer, found.client_id) == ("https://accounts.example.org/realms/one", "hub")
    assert found.scope == "openid email"
    assert found.name == "accounts.example.org"
    assert found.audience == ""
    assert found.is_issuer("https://accounts.example.org/realms/one/")
    assert not found.is_issuer("https://accounts.example.org/realms/two")


def test_auth0() -> None:
    found = config(AUTH0_DOMAIN="tenant.eu.auth0.com", AUTH0_CLIENT_ID="abc", AUTH0_AUDIENCE="https://api")
    assert found is not None
    assert (found.issuer, found.client_id, found.audience) == ("https://tenant.eu.auth0.com/", "abc", "https://api")
    without = config(AUTH0_DOMAIN="tenant.eu.auth0.com", AUTH0_CLIENT_ID="abc")
    assert without is not None
    assert without.audience == ""


def test_auth0_survives_the_way_into_a_service() -> None:
    """Also where it is set to what the default happens to be: the embedded cluster hands its settings on."""
    given = {"AUTH0_DOMAIN": "amun-ai.eu.auth0.com", "AUTH0_CLIENT_ID": "abc"}
    handed = Settings.load({}, environ=given).environment()
    assert config(**handed) == config(**given)


def test_the_secret_is_not_shown() -> None:
    found = config(
        HYPHA_OIDC_ISSUER="https://a.example.org", HYPHA_OIDC_CLIENT_ID="hub", HYPHA_OIDC_CLIENT_SECRET="very-hidden"
    )
    assert found is not None
    assert found.client_secret == "very-hidden"
    assert "very-hidden" not in repr(found)


@pytest.mark.parametrize(
    ("environ", "text"),
    [
        ({"HYPHA_OIDC_ISSUER": "http://accounts.example.org", "HYPHA_OIDC_CLIENT_ID": "h"}, "https://"),
        ({"HYPHA_OIDC_ISSUER": "https://a.example.org?x=1", "HYPHA_OIDC_CLIENT_ID": "h"}, "without query"),
        ({"HYPHA_OIDC_ISSUER": "https://a.example.org"}, "oidc_client_id"),
        ({"HYPHA_OIDC_CLIENT_ID": "h"}, "HYPHA_OIDC_ISSUER"),
        ({"AUTH0_DOMAIN": "tenant.auth0.com"}, "both"),
        ({"AUTH0_DOMAIN": "user@tenant.auth0.com", "AUTH0_CLIENT_ID": "abc"}, "https://"),
        ({"AUTH0_CLIENT_ID": "abc"}, "both"),
    ],
)
def test_refused(environ: dict[str, str], text: str) -> None:
    with pytest.raises(ConfigurationError, match=text):
        config(**environ)


@pytest.mark.parametrize(
    ("url", "trusted"),
    [
        ("https://a.example.org/x", True),
        ("http://127.0.0.1:9", True),
        ("http://[::1]/", True),
        ("http://localhost/", True),
        ("http://localhost.example.org/", False),
        ("http://127.0.0.1.example.org/", False),
        ("https://127.0.0.1@evil.example.org/", False),
        ("ftp://127.0.0.1/", False),
        ("https://", False),
    ],
)
def test_trustworthy(url: str, trusted: bool) -> None:
    assert is_trustworthy(url) is trusted
