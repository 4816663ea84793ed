
from hypha_rpc import get_remote_service

# NOTE: You need to replace the service id with the actual id you obtained when registering the service
# The url format should be in the format: http://<server_url>/<workspace>/services/<client_id>:<service_id> (client_id is optional)
svc = await get_remote_service("http://localhost:9527/ws-user-scintillating-lawyer-94336986/services/YLNzuQvQHVqMAyDzmEpFgF:hello-world")
