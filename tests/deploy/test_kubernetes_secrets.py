"""Secrets are made by a script, named by manifests, and in neither of them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import kubernetes_validate
import pytest

from hypha_common.principal import Permission, Principal, Scope
from hypha_common.settings import OPTIONS, Settings
from hypha_common.tokens import TokenCodec, TokenKind
from tests.deploy.kubernetes_secrets import printed_secrets, secret_values
from tests.deploy.manifests import FOLDER, OVERLAYS, build


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_script_makes_what_the_pods_need(overlay: str) -> None:
    """Every Secret and key that is named exists, and nothing is made that nobody names."""
    manifests, values = build(overlay), secret_values(overlay)
    for workload in manifests.workloads:
        for container in workload.containers:
            manifests.environment(container, values)
            manifests.files(workload, container, values)
    text = str(manifests.objects)
    assert all(f"'{name}'" in text for name in values)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_what_it_prints_is_a_list_of_secrets(overlay: str) -> None:
    printed = printed_secrets(overlay)
    assert printed["kind"] == "List"
    for item in printed["items"]:
        kubernetes_validate.validate(item, kubernetes_validate.latest_version(), strict=True)
        assert item["metadata"]["namespace"] == "hypha"


def test_every_run_makes_other_ones() -> None:
    first, second = ({word for values in secret_values_of().values() for word in values.values()} for _ in range(2))
    assert not first & second


def secret_values_of() -> dict[str, dict[str, str]]:
    return {item["metadata"]["name"]: item["stringData"] for item in printed_secrets("single-node")["items"]}


def test_the_secrets_are_good_settings() -> None:
    cluster = secret_values("single-node")["hypha-cluster"]
    environ = {
        "HYPHA_JWT_SECRET": cluster["jwt-secret"],
        "HYPHA_ROOT_TOKEN": cluster["root-token"],
        "HYPHA_DATABASE_URL": secret_values("single-node")["hypha-database"]["url"],
        "HYPHA_ACCESS_KEY_ID": secret_values("single-node")["hypha-s3"]["access-key-id"],
    }
    assert Settings.load(environ=environ).jwt_secret == cluster["jwt-secret"]


def test_nats_reads_the_passwords_as_words() -> None:
    for password in secret_values("single-node")["hypha-nats"].values():
        assert re.fullmatch(r"[A-Za-z][A-Za-z0-9]{31,}", password)


def test_browser_workers_may_register_in_public_and_no_more() -> None:
    """The script needs nothing but Python, so it signs by itself: just as our own code does."""
    values = secret_values("single-node")
    codec = TokenCodec.from_settings(Settings.load(environ={"HYPHA_JWT_SECRET": values["hypha-cluster"]["jwt-secret"]}))
    token = codec.verify(values["hypha-browser-worker"]["token"])
    scope = Scope({"public": Permission.READ_WRITE}, current_workspace="public")
    ours = codec.verify(codec.sign(Principal(id="browser-worker", roles=("worker",), scope=scope), life_s=60))
    assert token.kind is TokenKind.ACCESS
    assert (token.principal.id, token.principal.roles) == (ours.principal.id, ours.principal.roles)
    assert token.principal.scope == ours.principal.scope
    assert token.token_id and token.workspace == "public"


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_no_secret_is_in_a_manifest(overlay: str) -> None:
    manifests = build(overlay)
    assert not manifests.of_kind("Secret")
    secret = {name for row in OPTIONS.values() if row.secret or row.address for name in row.environment}
    for workload in manifests.workloads:
        for container in workload.containers:
            for entry in container.get("env", []):
                plain = "value" in entry and "password" not in entry["value"]
                assert entry["name"] not in secret or (plain and entry["name"] == "HYPHA_NATS_URL"), entry["name"]
                assert not re.search(r"://[^/]*:[^/]*@", entry.get("value", "")), entry["name"]
    for found in manifests.of_kind("ConfigMap"):
        for name, value in found["data"].items():
            assert name not in secret or (name == "HYPHA_NATS_URL" and "@" not in value)
            said = "\n".join(line for line in value.splitlines() if not line.lstrip().startswith("#"))
            assert not re.search(r"password\S*[:=]\s*[^$\s]", said, re.IGNORECASE), name


def test_pods_see_the_secrets_of_their_role_only() -> None:
    expected = {
        "hypha-gateway": {"hypha-cluster/jwt-secret", "hypha-nats/gateway"},
        "hypha-auth": {"hypha-cluster/jwt-secret", "hypha-cluster/root-token", "hypha-nats/auth", "hypha-database/url"},
        "hypha-workspace": {"hypha-nats/workspace", "hypha-database/url"},
        "hypha-artifacts": {
            *("hypha-cluster/jwt-secret", "hypha-nats/artifacts", "hypha-database/url"),
            *("hypha-s3/access-key-id", "hypha-s3/secret-access-key"),
        },
        "hypha-apps": {"hypha-cluster/jwt-secret", "hypha-nats/apps", "hypha-database/url"},
        "hypha-browser-worker": {"hypha-browser-worker/token"},
    }
    marked = {name: {key: f"{name}/{key}" for key in values} for name, values in secret_values("single-node").items()}
    manifests = build("single-node")
    for name, wanted in expected.items():
        workload = manifests.workload(name)
        seen = set()
        for container in workload.containers:
            seen |= set(manifests.environment(container, marked).values())
            seen |= set(manifests.files(workload, container, marked).values())
        assert {word for word in seen if word.startswith("hypha-")} - {"hypha-workspaces"} == wanted, name


def test_production_asks_for_the_keys_of_its_stores(tmp_path: Path) -> None:
    command = [sys.executable, str(FOLDER / "make-secrets"), "production"]
    refused = subprocess.run(command, capture_output=True, check=False, text=True, timeout=30)
    assert refused.returncode == 2 and "--s3-keys" in refused.stderr and not refused.stdout
    (tmp_path / "keys").write_text("only-one\n")
    keys = ["--s3-keys", str(tmp_path / "keys"), "--backup-s3-keys", str(tmp_path / "keys")]
    refused = subprocess.run([*command, *keys], capture_output=True, check=False, text=True, timeout=30)
    assert refused.returncode == 1 and "two lines" in refused.stderr and not refused.stdout
