async function main(){
    const token = await hyphaWebsocketClient.login({"server_url": "http://localhost:9527"})
    const server = await hyphaWebsocketClient.connectToServer({"server_url": "http://localhost:9527", "token": token})
    // ... use the server...
    server.disconnect()
}
