from __future__ import annotations

from typing import Any

__all__ = ["PATH_PARAMETERS", "SCHEMAS", "SECURITY_SCHEMES", "reference"]


def reference(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


_TEXT_OR_NULL: dict[str, Any] = {"type": ["string", "null"]}

SCHEMAS: dict[str, dict[str, Any]] = {
    "Error": {
        "type": "object",
        "description": "`success` is absent where the request was refused before anything looked at what it asks for.",
        "required": ["detail"],
        "properties": {
            "success": {"const": False},
            "detail": {"type": "string", "description": "what went wrong"},
            "error_id": {"type": "string", "description": "what an operator finds it by; also header X-Request-Id"},
        },
    },
    "ServiceInfo": {
        "type": "object",
        "required": ["id"],
        "properties": {
            "id": {"type": "string", "examples": ["ws-user-ada/client-1:hello-world"]},
            "name": _TEXT_OR_NULL,
            "type": _TEXT_OR_NULL,
            "description": _TEXT_OR_NULL,
            "config": {"type": ["object", "null"], "properties": {"visibility": {"type": "string"}}},
            "service_schema": {"type": ["object", "null"], "description": "its functions, with their parameters"},
        },
    },
    "WorkspaceInfo": {
        "type": "object",
        "required": ["id"],
        "properties": {
            "id": {"type": "string"},
            "name": _TEXT_OR_NULL,
            "description": _TEXT_OR_NULL,
            "owners": {"type": "array", "items": {"type": "string"}},
            "persistent": {"type": ["boolean", "null"]},
            "read_only": {"type": ["boolean", "null"]},
        },
    },
    "Health": {
        "type": "object",
        "required": ["status", "detail"],
        "properties": {"status": {"enum": ["OK", "DOWN"]}, "detail": {"type": ["object", "string"]}},
    },
    "Diagnostics": {
        "type": "object",
        "required": ["timestamp", "status", "issues", "uptime_seconds"],
        "properties": {
            "timestamp": {"type": "string", "format": "date-time"},
            "status": {"enum": ["HEALTHY", "WARNING", "CRITICAL"]},
            "health_score": {"type": "integer", "minimum": 0, "maximum": 100},
            "issues": {"type": "array", "items": {"type": "string"}},
            "role": {"type": "string"},
            "version": {"type": "string"},
            "uptime_seconds": {"type": "number"},
        },
    },
    "Artifact": {
        "type": "object",
        "required": ["id", "type", "manifest"],
        "properties": {
            "id": {"type": "string", "examples": ["ws-user-ada/my-model"]},
            "type": _TEXT_OR_NULL,
            "manifest": {"type": ["object", "null"], "description": "what its author says of it"},
            "versions": {"type": "array", "items": {"type": "object"}},
            "staging": {"type": ["array", "object", "null"], "description": "what the draft changes"},
        },
    },
    "Done": {
        "type": "object",
        "required": ["success"],
        "properties": {"success": {"type": "boolean"}, "message": {"type": "string"}},
    },
    "KeySet": {
        "type": "object",
        "required": ["keys"],
        "properties": {
            "keys": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["kty", "kid", "alg", "use"],
                    "properties": {"kty": {"const": "EC"}, "alg": {"const": "ES256"}, "use": {"const": "sig"}},
                },
            }
        },
    },
    "ServerConfig": {
        "type": "object",
        "required": ["user", "server_id", "hypha_version", "public_base_url"],
        "properties": {
            "user": {"type": "object", "required": ["id"], "description": "who looks"},
            "server_id": {"type": "string"},
            "hypha_version": {"type": "string"},
            "public_base_url": {"type": "string"},
            "local_base_url": {"type": "string"},
            "login_service_url": {"type": "string"},
        },
    },
}

PATH_PARAMETERS = {
    "workspace": "id of a workspace, such as `ws-user-ada`, or `public`",
    "service": (
        "`service`, `client:service` or `*:service`, each of them also with `@application`; "
        "`ws` or `~` is the workspace manager"
    ),
    "keys": "name of a function; dots lead into nested maps",
    "path": "the rest of the path",
    "alias": "alias of an artifact, or its UUID",
    "bucket": "the bucket",
    "key": "key of an object",
    "name": "name of a file",
}

SECURITY_SCHEMES = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "A token of this hub. Basic credentials with the token as password are taken as well.",
    },
    "cookie": {"type": "apiKey", "in": "cookie", "name": "access_token", "description": "Set by the login page."},
}
