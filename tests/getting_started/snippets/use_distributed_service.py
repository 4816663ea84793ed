from hypha_rpc import connect_to_server

async def use_distributed_service(server_url, token):
    async with connect_to_server({
        "server_url": server_url,
        "token": token
    }) as server:
        # Access service by name with app_id
        # Hypha will use the service_selection_mode from the application manifest
        worker_service = await server.get_service("worker-service@my-distributed-app")
        
        # Call the service - Hypha will automatically select an instance
        # based on the app's service_selection_mode (e.g., "random")
        result = await worker_service.process_task("important-computation")
        print(f"Result: {result}")
        
        # Check status of the selected instance
        status = await worker_service.get_status()
        print(f"Service status: {status}")

if __name__ == "__main__":
    import asyncio
    asyncio.run(use_distributed_service("https://ai.imjoy.io", "your-token"))
