from hypha_rpc import login, connect_to_server

token = await login({"server_url": "https://ai.imjoy.io"})
# A login URL will be printed to the console
# The user needs to open the URL in a browser and log in
# Once the user logs in, the login function will return
# with the token for connecting to the server
async with connect_to_server({"server_url": "https://ai.imjoy.io", "token": token}) as server:
    # ...use the server api...
    pass
