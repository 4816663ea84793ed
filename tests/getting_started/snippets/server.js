const serverUrl = "https://hypha.aicell.io"

const loginCallback = (context) => {
  window.open(context.login_url);
};

async function startServer(serverUrl) {
  // Log in and connect to the Hypha server
  const token = await hyphaWebsocketClient.login({
    server_url: serverUrl,
    login_callback: loginCallback,
  });

  const server = await hyphaWebsocketClient.connectToServer({
    server_url: serverUrl,
    token: token,
  });

  // Define a service method
  function hello(name, context) {
    console.log("Hello " + name);
    return "Hello " + name;
  }

  // Register the service with the server
  const myService = await server.registerService({
    id: "hello-world",
    name: "Hello World",
    description: "A simple hello world service",
    config: {
      visibility: "public",
      require_context: true,
    },
    hello: hello, // or just `hello,` in modern JS
  });

  console.log(`Hello world service registered at workspace: ${server.config.workspace}, id: ${myService.id}`);
  console.log(`You can use this service using the service id: ${myService.id}`);
  console.log(`You can also test the service via the HTTP proxy: ${serverUrl}/${server.config.workspace}/services/${myService.id.split('/')[1]}/hello?name=John`);
}

// Start the server
startServer(serverUrl);
