from __future__ import annotations

import pytest

from hypha_common.errors import BadRequest
from hypha_workspace.manager.case_conversion import check_case, convert_case

METHOD = {"_rtype": "method", "_rtarget": "ws/c", "_rmethod": "services.s.say_hello", "_rname": "say_hello"}


def test_camel_renames_nested_keys_and_methods_follow() -> None:
    """The method keeps its address; what it is called in the schema follows the key."""
    service = {"service_schema": None, "nested": {"say_hello": {**METHOD, "_rschema": {"name": "say_hello", "x": 1}}}}
    converted = convert_case(service, "camel")
    assert converted["serviceSchema"] is None
    method = converted["nested"]["sayHello"]
    assert method["_rmethod"] == "services.s.say_hello"
    assert method["_rname"] == "sayHello"
    assert method["_rschema"] == {"name": "sayHello", "x": 1}


def test_snake_leaves_encoded_values_alone() -> None:
    """Keys of encoded values belong to the wire."""
    value = {"myArray": {"_rtype": "ndarray", "_rShape": [1]}, "_private": 1, 3: {"aB": 1}}
    assert convert_case(value, "snake") == {"my_array": value["myArray"], "_private": 1, 3: {"a_b": 1}}


def test_unknown_case_is_refused() -> None:
    """A typing error is told, not ignored."""
    assert check_case(None) is None
    assert check_case("camel") == "camel"
    with pytest.raises(BadRequest):
        check_case("kebab")
