async def fails(server):
    await server.register_service({"id": "half", "config": {"visibility": "public"}, "f": lambda: 1})
    raise ValueError("boom")


def synchronous(server):
    pass


class Functions:
    async def start(self, server):
        pass


functions = Functions()
