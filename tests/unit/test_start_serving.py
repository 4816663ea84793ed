from __future__ import annotations

from hypha_apps.starting.serving import has_service, name_of, stands_in, with_services

ONE = {"id": "ws/client:worker-service-instance-1", "type": "worker"}
MANIFEST = {"services": [{"id": "worker-service", "type": "worker"}, {"id": "ws/*:plain"}, "what"]}


def test_names() -> None:
    assert name_of({"id": "ws/client:svc@app"}) == "svc"
    assert has_service([ONE], "worker-service-instance-1")
    assert not has_service([ONE], "worker-service")


def test_what_stands_in_for_a_declared_service() -> None:
    """By its name, or by its type where the manifest says so (contract 03 §3.6)."""
    assert stands_in([ONE], "worker-service", MANIFEST)
    assert stands_in([{"id": "ws/client:x", "type": "worker"}], "worker-service", MANIFEST)
    assert not stands_in([{"id": "ws/client:x", "type": "other"}], "worker-service", MANIFEST)
    assert not stands_in([ONE], "worker-service", {})
    assert not stands_in([{"id": "ws/client:x", "type": ""}], "plain", MANIFEST)


def test_record_has_what_is_served() -> None:
    default = {"id": "ws/client:default", "config": {"visibility": "public"}}
    assert with_services({"id": "x"}, [ONE, default]) == {
        "id": "x",
        "services": [ONE, default],
        "config": {"visibility": "public"},
    }
    assert with_services({"config": {"a": 1}}, [])["config"] == {"a": 1}
