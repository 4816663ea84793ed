from hypha_rpc import connect_to_server

async def main():
    # Connect with a token that has read_write permission
    async with connect_to_server({
        "server_url": "https://ai.imjoy.io",
        "token": "your-token-here"
    }) as server:
        # Set environment variables
        await server.set_env("DATABASE_URL", "postgres://localhost:5432/mydb")
        await server.set_env("API_KEY", "your-secret-key")
        # Remove an environment variable
        await server.set_env("API_KEY", None)
        
        # Get a specific environment variable
        db_url = await server.get_env("DATABASE_URL")
        print(f"Database URL: {db_url}")
        
        # Get all environment variables
        all_vars = await server.get_env()
        print(f"All variables: {all_vars}")

if __name__ == "__main__":
    import asyncio
    asyncio.run(main())
