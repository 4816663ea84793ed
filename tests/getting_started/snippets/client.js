async function main(){
    const server = await hyphaWebsocketClient.connectToServer({"server_url": "http://localhost:9527"})
    // NOTE: You need to replace the service id with the actual id you obtained when registering the service
    const svc = await server.getService("ws-user-scintillating-lawyer-94336986/YLNzuQvQHVqMAyDzmEpFgF:hello-world")
    const ret = await svc.hello("John")
    console.log(ret)
    server.disconnect()
}
