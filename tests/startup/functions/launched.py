import sys

from hypha_rpc.sync import connect_to_server

server_url, workspace, token = sys.argv[1:]
server = connect_to_server({"server_url": server_url, "workspace": workspace, "token": token})
server.register_service({"id": "launched", "hello": lambda: "launched"})
server.serve()
