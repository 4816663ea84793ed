token = await login(
    {
        "server_url": SERVER_URL,
        "login_callback": login_callback,
        "login_timeout": 3,
    }
)
