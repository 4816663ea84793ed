async function main() {
    // Connect with a token that has read_write permission
    const server = await hyphaWebsocketClient.connectToServer({
        server_url: "https://ai.imjoy.io",
        token: "your-token-here"
    });
    
    // Set environment variables
    await server.setEnv({key: "DATABASE_URL", value: "postgres://localhost:5432/mydb", _rkwargs: true});
    await server.setEnv({key: "API_KEY", value: "your-secret-key", _rkwargs: true});
    // Remove an environment variable
    await server.setEnv({key: "API_KEY", value: null, _rkwargs: true});
    // Get a specific environment variable
    const dbUrl = await server.getEnv({key: "DATABASE_URL", value: null, _rkwargs: true});
    console.log("Database URL:", dbUrl);
    
    // Get all environment variables
    const allVars = await server.getEnv();
    console.log("All variables:", allVars);
}

main();
