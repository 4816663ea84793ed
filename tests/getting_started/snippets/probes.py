from hypha_rpc import connect_to_server

async def start_server(server_url):
    async with connect_to_server({"server_url": server_url}) as server:
        # Assuming you have some services registered already
        # And you want to monitor the service status

        def check_readiness():
            # Check if the service is ready
            # Replace this with your own readiness check
            return {"status": "ok"}
        
        def check_liveness():
            # Check if the service is alive
            # Replace this with your own liveness check
            return {"status": "ok"}

        # Register probes for the service
        await server.register_probes({
            "readiness": check_readiness,
            "liveness": check_liveness,
        })

        # This will register probes service where you can accessed via hypha or the HTTP proxy
        print(f"Probes registered at workspace: {server.config.workspace}")
        print(f"Test it with the HTTP proxy: {server_url}/{server.config.workspace}/services/probes/readiness")

        # Keep the server running forever
        await server.serve()

if __name__ == "__main__":
    server_url = "https://my-hypha-server.org"
    asyncio.run(start_server(server_url))
