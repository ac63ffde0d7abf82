import barrel_p2p
from barrel_p2p import GenServer, Node, call


class Greeter(GenServer):
    @call
    async def hello(self, who: str) -> str:
        return f"hello {who}, this is {self.node.name}"


async def main() -> None:
    async with Node("a@127.0.0.1") as a, Node("b@127.0.0.1") as b:
        await b.join(a)
        await a.start_server(Greeter, service="greeter")
        greeter = await b.proxy(Greeter, "greeter")
        print(await greeter.hello("world"))


barrel_p2p.run(main())
