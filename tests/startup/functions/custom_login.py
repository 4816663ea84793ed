"""Custom authentication: signed tokens of our own, a login page of our own, a header of our own."""

import time
import uuid

import jwt

from hypha.core import UserInfo, create_scope

SECRET = "a secret that is not the cluster's, of course"
PEOPLE = {"alice": "wonderland", "bob": "builder"}
LOGINS = {}


def parse_token(token):
    try:
        claims = jwt.decode(token, SECRET, algorithms=["HS256"])
    except jwt.InvalidTokenError as error:
        raise ValueError(f"Not a token of ours: {error}") from None
    if claims["sub"] == "nobody":
        return {"id": "root", "roles": ["admin"]}
    workspace = claims.get("workspace")
    return UserInfo(
        id=claims["sub"],
        email=f"{claims['sub']}@example.org",
        parent=claims.get("parent"),
        roles=["user"],
        scope=create_scope(claims.get("grants", {}), current_workspace=workspace),
        expires_at=claims["exp"],
    )


async def generate_token(user_info, expires_in):
    claims = {"sub": user_info.id, "exp": int(time.time() + expires_in), "id": uuid.uuid4().hex}
    if user_info.parent:
        claims["parent"] = user_info.parent
        claims["grants"] = user_info["scope"].workspaces
        claims["workspace"] = user_info.scope.current_workspace
    return jwt.encode(claims, SECRET, algorithm="HS256")


async def get_token(scope):
    for name, value in scope["headers"]:
        if name == b"x-our-token":
            if value == b"refused":
                raise PermissionError("We refuse this")
            return value.decode()
    return None


async def index(event):
    return {
        "status": 200,
        "headers": {"Content-Type": "text/html"},
        "body": f"<h1>Our login</h1>{event['query_string']}",
    }


async def start(workspace=None, expires_in=None):
    key = uuid.uuid4().hex
    LOGINS[key] = None
    base = "/public/services/hypha-login"
    return {
        "login_url": f"/public/apps/hypha-login/?key={key}",
        "key": key,
        "report_url": f"{base}/report",
        "check_url": f"{base}/check",
    }


async def login(name, password, key=None):
    if PEOPLE.get(name) != password:
        return {"success": False, "error": "Invalid name or password"}
    token = await generate_token(UserInfo(id=name), 3600)
    if key:
        LOGINS[key] = token
    return {"success": True, "token": token}


async def check(key, timeout=180, profile=False):
    token = LOGINS.get(key)
    return {"token": token, "user_id": parse_token(token).id} if token and profile else token


async def logout(config=None):
    return {"logout_url": "/public/apps/hypha-login/bye"}


async def hypha_startup(server):
    await server.register_auth_service(
        parse_token=parse_token,
        generate_token=generate_token,
        get_token=get_token,
        index_handler=index,
        start_handler=start,
        check_handler=check,
        logout_handler=logout,
        login=login,
    )


async def only_a_page(server):
    """As few parts as possible: the others are the server's."""
    await server["set_parse_token_function"](parse_token)
    await server.register_auth_service(index_handler=index)
