async with connect_to_server({"server_url": server_url}) as server:
    # Your code here
    pass
# Connection is automatically closed here
