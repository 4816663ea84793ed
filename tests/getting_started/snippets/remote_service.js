// NOTE: You need to replace the service id with the actual id you obtained when registering the service
const svc = await hyphaWebsocketClient.getRemoteService("http://localhost:9527/ws-user-scintillating-lawyer-94336986/services/YLNzuQvQHVqMAyDzmEpFgF:hello-world")
const ret = await svc.hello("John")
console.log(ret)
