async function useDistributedService(serverUrl, token) {
    const server = await hyphaWebsocketClient.connectToServer({
        server_url: serverUrl,
        token: token
    });
    
    // Access service by name with app_id
    // Hypha will use the service_selection_mode from the application manifest
    const workerService = await server.getService("worker-service@my-distributed-app");
    
    // Call the service - Hypha will automatically select an instance
    // based on the app's service_selection_mode (e.g., "random")
    const result = await workerService.process_task("important-computation");
    console.log(`Result: ${result}`);
    
    // Check status of the selected instance
    const status = await workerService.get_status();
    console.log(`Service status: ${status}`);
}

// Usage
useDistributedService("https://ai.imjoy.io", "your-token");
