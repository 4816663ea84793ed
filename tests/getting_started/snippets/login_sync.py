from hypha_rpc.sync import login, connect_to_server

token = login({"server_url": "https://ai.imjoy.io"})
with connect_to_server({"server_url": "https://ai.imjoy.io", "token": token}) as server:
    # ...use the server api...
    pass
