token = await login(
    {
        "server_url": SERVER_URL,
        "workspace": "my-workspace",
        "expires_in": 3600,
    }
)
