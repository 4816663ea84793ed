// custom-worker.js
import { connectToServer } from 'hypha-rpc';

// Worker functions
async function start(config) {
    const sessionId = `${config.workspace}/${config.client_id}`;
    console.log(`Starting session ${sessionId} for app ${config.app_id}`);
    
    // Your custom session startup logic here
    const sessionData = {
        status: "running",
        created_at: new Date().toISOString(),
        logs: [`Session ${sessionId} started`]
    };
    
    // Store session data (use proper storage in production)
    global.sessionStorage = global.sessionStorage || {};
    global.sessionStorage[sessionId] = sessionData;
    
    return {
        session_id: sessionId,
        app_id: config.app_id,
        workspace: config.workspace,
        client_id: config.client_id,
        status: "running",
        app_type: config.app_type,
        created_at: sessionData.created_at,
        metadata: config.metadata
    };
}

async function stop(sessionId) {
    console.log(`Stopping session ${sessionId}`);
    if (global.sessionStorage[sessionId]) {
        global.sessionStorage[sessionId].status = "stopped";
    }
}

async function listSessions(workspace) {
    const sessions = [];
    for (const [sessionId, sessionData] of Object.entries(global.sessionStorage || {})) {
        if (sessionId.startsWith(workspace + "/")) {
            sessions.push({
                session_id: sessionId,
                status: sessionData.status,
                created_at: sessionData.created_at
            });
        }
    }
    return sessions;
}

async function getLogs(sessionId) {
    const sessionData = global.sessionStorage[sessionId];
    if (!sessionData) {
        throw new Error(`Session ${sessionId} not found`);
    }
    return { log: sessionData.logs || [], error: [] };
}

// Register the worker
async function registerWorker() {
    try {
        const server = await connectToServer({
            server_url: "http://localhost:9527"
        });
        
        const workerService = await server.registerService({
            name: "JavaScript Custom Worker",
            description: "A custom worker implemented in JavaScript",
            type: "server-app-worker",
            config: {
                visibility: "protected",
                run_in_executor: true,
            },
            supported_types: ["javascript-custom", "js-worker"],
            start: start,
            stop: stop,
            list_sessions: listSessions,
            get_logs: getLogs,
            get_session_info: async (sessionId) => {
                const sessionData = global.sessionStorage[sessionId];
                if (!sessionData) throw new Error(`Session ${sessionId} not found`);
                return { session_id: sessionId, status: sessionData.status };
            },
            prepare_workspace: async (workspace) => console.log(`Preparing workspace ${workspace}`),
            close_workspace: async (workspace) => console.log(`Closing workspace ${workspace}`),
        });
        
        console.log(`JavaScript worker registered: ${workerService.id}`);
        return server;
        
    } catch (error) {
        console.error("Failed to register worker:", error);
        throw error;
    }
}

// Start the worker
registerWorker().then(server => {
    console.log("JavaScript worker is running...");
}).catch(error => {
    console.error("Worker startup failed:", error);
    process.exit(1);
});
