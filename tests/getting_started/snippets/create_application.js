async function createApplication(serverUrl, token) {
    const server = await hyphaWebsocketClient.connectToServer({
        server_url: serverUrl,
        token: token
    });
    
    // Get the artifact manager
    const artifactManager = await server.getService("public/artifact-manager");
    
    // Create an application manifest
    const appManifest = {
        name: "my-distributed-app",
        description: "A distributed application with multiple service instances",
        type: "application",
        service_selection_mode: "random",  // How to select between multiple instances
        services: [
            {
                id: "worker-service",
                name: "Worker Service",
                type: "compute",
                description: "A compute worker service"
            },
            {
                id: "storage-service",
                name: "Storage Service", 
                type: "storage",
                description: "A storage service"
            }
        ]
    };
    
    // Create the application artifact
    const appArtifact = await artifactManager.create({
        type: "application",
        manifest: appManifest,
        alias: "my-distributed-app",
        _rkwargs: true
    });
    
    // Commit the artifact to make it available
    await artifactManager.commit({artifact_id: appArtifact.id, _rkwargs: true});
    
    console.log(`Application created with ID: ${appArtifact.id}`);
    return appArtifact;
}

// Usage
createApplication("https://ai.imjoy.io", "your-token");
