"""As much of the package of this name as ``hypha_rpc.utils.launch`` uses: it is no dependency of ours."""

import asyncio


class SupervisedProcess:
    def __init__(self, name, *command, env, always_restart, ready_func, ready_timeout, log):
        self._command, self._env, self._ready, self._timeout = command, env, ready_func, ready_timeout
        self._process = None

    async def start(self):
        self._process = await asyncio.create_subprocess_exec(*self._command, env=self._env)

    async def ready(self):
        async with asyncio.timeout(self._timeout):
            while not await self._ready(self):
                await asyncio.sleep(0.05)
        return True

    async def kill(self):
        self._process.kill()
        await self._process.wait()
