// What a page has and Node 20 has not: WebSocket, and the client under the name that its script tag gives it.
import { WebSocket } from "ws";

globalThis.WebSocket ??= WebSocket;
globalThis.hyphaWebsocketClient = (await import("hypha-rpc")).hyphaWebsocketClient;
