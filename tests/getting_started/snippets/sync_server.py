from hypha_rpc.sync import connect_to_server

def start_server(server_url):
    with connect_to_server({"server_url": server_url}) as server:
        def hello(name):
            print("Hello " + name)
            return "Hello " + name

        svc = server.register_service({
            "name": "Hello World",
            "id": "hello-world",
            "config": {
                "visibility": "public"
            },
            "hello": hello
        })
        
        print(f"Hello world service registered at workspace: {server.config.workspace}, id: {svc.id}")

        print(f'You can use this service using the service id: {svc.id}')

        print(f"You can also test the service via the HTTP proxy: {server_url}/{server.config.workspace}/services/{svc.id.split('/')[1]}/hello?name=John")

if __name__ == "__main__":
    server_url = "http://localhost:9527"
    start_server(server_url)
