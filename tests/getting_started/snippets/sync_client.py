from hypha_rpc.sync import connect_to_server

def main():
    with connect_to_server({"server_url": "http://localhost:9527"}) as server:
        # Get an existing service
        # NOTE: You need to replace the service id with the actual id you obtained when registering the service
        svc = server.get_service("ws-user-scintillating-lawyer-94336986/YLNzuQvQHVqMAyDzmEpFgF:hello-world")
        ret = svc.hello("John")
        print(ret)

if __name__ == "__main__":
    main()
