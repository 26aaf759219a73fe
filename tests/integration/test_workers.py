"""``trillm serve --workers``: several processes that are one trillm, also while some of them die."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import httpx
import pytest
import trio
import trustme
from support.program import Program, cli, exists, serving, serving_counted, serving_sim, wait_for
from support.running import CHAT, NO_LIMITS, chat, events

from trillm.registry.store import Store

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there is one process on Windows")

WORKERS = 4
SHORT = CHAT | {"model": "m"}


def company(folder: Path, *options: str, **more):
    return serving(folder, "--no-discover", "--workers", str(WORKERS), *options, **more)


def with_server(folder: Path, url: str, **settings) -> None:
    document = {"version": 1, "servers": {"gpu": {"url": url, **{"kind": "builtin"} | settings}}}
    (folder / "servers.json").write_text(json.dumps(document))


def client(program: Program, **more) -> httpx.AsyncClient:
    more = {"base_url": program.url, "trust_env": False, "timeout": 60, "limits": NO_LIMITS} | more
    return httpx.AsyncClient(**more)


def workers_of(program: Program) -> dict[int, int]:
    """The worker processes that are there: number and pid."""
    listed = subprocess.run(["ps", "-e", "-o", "pid=,ppid=,args="], capture_output=True, text=True, check=True).stdout
    found = re.findall(rf"^ *(\d+) +{program.process.pid} .*trillm\.worker (\d+) \d+$", listed, re.MULTILINE)
    return {int(number): int(pid) for pid, number in found}


def served_by(program: Program) -> Counter[int]:
    """How many requests each worker has answered, as the log has it."""
    return Counter(int(n) for n in re.findall(r": request worker=(\d+) ", program.log.read_text()))


async def ask(program: Program, body=CHAT, **headers: str) -> httpx.Response:
    """Ask on a connection of its own: the kernel chooses the worker."""
    async with client(program) as one:
        return await one.post("/v1/chat/completions", json=body, headers=headers)


async def all_of(program: Program, count: int, body=CHAT) -> list[httpx.Response]:
    """Ask ``count`` times at once."""
    replies: list[httpx.Response] = []

    async def one() -> None:
        replies.append(await ask(program, body))

    async with trio.open_nursery() as nursery:
        for _ in range(count):
            nursery.start_soon(one)
    return replies


def counted(text: str, name: str = "trillm_requests_total") -> float:
    return sum(float(value) for value in re.findall(rf"^{name}(?:{{[^}}]*}})? (\S+)$", text, re.MULTILINE))


async def sim_stats(url: str) -> dict[str, int]:
    async with httpx.AsyncClient(trust_env=False) as one:
        return (await one.get(f"{url}/sim/stats")).json()


async def metrics(program: Program) -> str:
    async with client(program) as one:
        return (await one.get("/metrics")).text


async def until(condition, within_s: float = 10) -> None:
    with trio.fail_after(within_s):
        while not await condition():
            await trio.sleep(0.05)


# ── limits ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("limit", "takes_s"), [(2, 0.05), (1, 0.02), (3, 0.001)])
async def test_a_limit_holds_across_workers_and_everybody_is_served(tmp_path, limit, takes_s):
    with serving_counted(takes_s) as (gpu, url):
        with_server(tmp_path, url, kind="openai", max_concurrent=limit)
        with company(tmp_path, "--chat-budget", "60") as program:
            for _ in range(2):
                replies = await all_of(program, 40, SHORT)
                assert [reply.status_code for reply in replies] == [200] * 40
            assert gpu.peak <= limit
            assert gpu.answered == 80
            assert len(served_by(program)) == WORKERS


async def test_a_limit_that_is_changed_is_the_new_one_everywhere(tmp_path):
    with serving_counted(0.05) as (gpu, url):
        with_server(tmp_path, url, kind="openai", max_concurrent=1)
        with company(tmp_path, "--chat-budget", "60") as program:
            await all_of(program, 10, SHORT)
            assert gpu.peak == 1
            await trio.to_thread.run_sync(program.cli, "server", "edit", "gpu", "--max-concurrent", "3")
            await trio.sleep(1)
            replies = await all_of(program, 30, SHORT)
            assert {reply.status_code for reply in replies} == {200}
            assert gpu.peak == 3


async def test_a_slot_that_another_worker_keeps_unused_comes_within_milliseconds(tmp_path):
    with serving_counted(0) as (_, url):
        with_server(tmp_path, url, kind="openai", max_concurrent=1)
        with company(tmp_path) as program:
            queued = []
            for _ in range(40):
                reply = await ask(program, SHORT)
                queued.append(float(re.search(r"queue;dur=([\d.]+)", reply.headers["server-timing"])[1]))
            assert len(served_by(program)) > 1
            assert sorted(queued)[len(queued) // 2] < 20  # machines here are shared
            assert max(queued) < 1000


@pytest.mark.skipif(sys.platform != "linux", reason="whose a connection is can be read in /proc")
async def test_what_a_dead_worker_held_is_free_again(tmp_path):
    with serving_counted(0.01) as (gpu, url):
        with_server(tmp_path, url, kind="openai", max_concurrent=1)
        with company(tmp_path, "--chat-budget", "60") as program:
            outcomes: Counter[int] = Counter()

            async def wait() -> None:
                try:
                    outcomes[(await ask(program, SHORT)).status_code] += 1
                except httpx.TransportError:
                    outcomes[0] += 1  # it waited in the worker that is killed

            holder = await trio.open_tcp_stream("127.0.0.1", int(program.url.rpartition(":")[2]))
            async with trio.open_nursery() as nursery, holder:
                body = json.dumps(SHORT | {"x_takes_s": 6}).encode()
                head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(body)}\r\n\r\n"
                await holder.send_all(head.encode() + body)
                await until(lambda: in_flight(program, 1))
                for _ in range(20):
                    nursery.start_soon(wait)
                await until(lambda: is_waiting(program, 20))
                assert not outcomes
                killed = trio.current_time()
                os.kill(pid_that_has(program, holder.socket.getsockname()[1]), signal.SIGKILL)
                with trio.fail_after(5):
                    while outcomes.total() < 20:
                        await trio.sleep(0.05)
            assert outcomes[200] + outcomes[0] == 20
            assert outcomes[200] >= 8
            assert trio.current_time() - killed < 5  # before what it held would have ended
            assert gpu.peak == 2  # a server need not notice that its client is dead, and this one does not


def pid_that_has(program: Program, port: int) -> int:
    """The worker at the other end of the connection whose own end is at ``port``."""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        columns = line.split()
        if columns[2].endswith(f":{port:04X}") and columns[9] != "0":
            wanted = f"socket:[{columns[9]}]"
            for pid in workers_of(program).values():
                for descriptor in Path(f"/proc/{pid}/fd").iterdir():
                    if str(descriptor.readlink()) == wanted:
                        return pid
    raise AssertionError(port)


async def in_flight(program: Program, count: int) -> bool:
    return (await status(program))["gpu"]["in_flight"] == count


async def is_waiting(program: Program, count: int) -> bool:
    return (await status(program))["gpu"]["waiting"] == count


async def status(program: Program) -> dict:
    note = json.loads(program.run_file.read_text())
    async with client(program) as one:
        answered = await one.get("/trillm/status", headers={"authorization": f"Bearer {note['token']}"})
    return {server["name"]: server for server in answered.json()["servers"]}


async def test_the_command_line_shows_what_all_workers_do_together(tmp_path):
    with serving_sim("--ttft", "3") as url:
        with_server(tmp_path, url, max_concurrent=3)
        with company(tmp_path, "--chat-budget", "60") as program:
            async with trio.open_nursery() as nursery:
                for _ in range(12):
                    nursery.start_soon(ask, program)

                async def all_there() -> bool:
                    gpu = (await status(program))["gpu"]
                    return (gpu["in_flight"], gpu["waiting"], gpu["state"]) == (3, 9, "busy")

                await until(all_there)
                shown = await trio.to_thread.run_sync(program.cli, "server", "list")
                assert re.search(r"gpu +busy .* 3/3 \+9 ", shown.stdout)
                gauges = await metrics(program)
                assert counted(gauges, "trillm_server_in_flight") == 3
                assert counted(gauges, "trillm_server_waiting") == 9
                assert counted(gauges, "trillm_running") == 12
                assert counted(gauges, "trillm_server_up") == 1
                assert counted(gauges, "trillm_workers") == WORKERS
                nursery.cancel_scope.cancel()
            await until(lambda: in_flight(program, 0))


# ── one trillm ──────────────────────────────────────────────────────────────────────────────────────────────────


async def test_metrics_are_sums_and_never_fall(tmp_path):
    with company(tmp_path) as program:
        replies = await all_of(program, 40)
        assert {reply.status_code for reply in replies} == {200}
        assert len(served_by(program)) == WORKERS
        assert counted(await metrics(program)) == 40
        workers = workers_of(program)
        os.kill(workers[2], signal.SIGKILL)  # what it has counted was asked for before
        os.kill(workers[3], signal.SIGTERM)  # it tells before it ends

        async def replaced() -> bool:
            now = workers_of(program)
            return len(now) == WORKERS and not {workers[2], workers[3]} & set(now.values())

        await until(replaced)
        assert counted(await metrics(program)) == 40
        await all_of(program, 10)
        after = await metrics(program)
        assert counted(after) == 50
        assert counted(after, "trillm_request_seconds_count") == 50
        await until(lambda: are_ready(program))


async def are_ready(program: Program) -> bool:
    return counted(await metrics(program), "trillm_workers") == WORKERS


async def test_a_change_of_the_registry_or_of_the_keys_reaches_every_worker_within_a_second(tmp_path):
    with serving_sim("--ttft", "0") as url, company(tmp_path) as program:
        await trio.to_thread.run_sync(program.cli, "server", "add", "gpu1", url)
        await trio.sleep(1)
        replies = await all_of(program, 40, chat(model="gpu1/sim-chat"))
        assert {reply.status_code for reply in replies} == {200}
        assert len(served_by(program)) == WORKERS
        Store(program.config).keys.create("laptop")
        await trio.sleep(1)
        assert {reply.status_code for reply in await all_of(program, 40)} == {401}


async def test_the_builtin_backend_is_one_for_all(tmp_path):
    with company(tmp_path) as program:
        url = (await status(program))["builtin"]["url"]
        await all_of(program, 20)
        assert (await sim_stats(url))["finished"] == 20


async def test_a_worker_that_is_killed_is_replaced_and_costs_only_its_own_requests(tmp_path):
    with serving_sim("--ttft", "0.3", "--itl", "0.02") as url:
        with_server(tmp_path, url)
        with company(tmp_path) as program:
            before = workers_of(program)
            outcomes: Counter[str] = Counter()

            async def caller() -> None:
                while trio.current_time() < until_s:
                    try:
                        reply = await ask(program, chat(stream=True))
                    except httpx.TransportError:
                        outcomes["lost"] += 1
                    else:
                        good = reply.status_code == 200 and events(reply.text)[-1] == "[DONE]"
                        outcomes["good" if good else "bad"] += 1

            until_s = trio.current_time() + 6
            async with trio.open_nursery() as nursery:
                for _ in range(24):
                    nursery.start_soon(caller)
                await until(lambda: has_served(program, 1))
                os.kill(before[1], signal.SIGKILL)
            assert outcomes["bad"] == 0
            assert outcomes["lost"] < 20  # what it was answering; nothing of the others, nothing afterwards
            assert outcomes["good"] > 50
            after = workers_of(program)
            assert {number for number in after if after[number] != before[number]} == {1}
            assert "worker 1 ended by signal 9" in program.log.read_text()


async def has_served(program: Program, worker: int) -> bool:
    return served_by(program)[worker] > 0


def test_workers_come_with_tls_and_a_unix_socket(tmp_path):
    path, authority = tmp_path / "t.sock", trustme.CA()
    authority.issue_cert("localhost", "127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "c.pem"))
    import ssl

    trust = ssl.create_default_context()
    authority.configure_trust(trust)
    with company(tmp_path, "--uds", str(path), "--certfile", str(tmp_path / "c.pem")) as program:
        for _ in range(5):
            for more in ({"transport": httpx.HTTPTransport(uds=str(path), verify=trust)}, {"verify": trust}):
                with httpx.Client(base_url=program.url, trust_env=False, **more) as one:
                    host = {"host": "localhost"}
                    assert one.post("/v1/chat/completions", json=CHAT, headers=host).status_code == 200
        assert f"with {WORKERS} workers" in program.log.read_text()
        assert "builtin" in program.cli("server", "list").stdout
    assert not path.exists()


@pytest.mark.parametrize("where", ["tcp", "uds"])
async def test_where_the_kernel_does_not_balance_workers_accept_from_one_socket(tmp_path, where):
    path = tmp_path / "t.sock"
    options, more = (("--uds", str(path)), {"port": None}) if where == "uds" else ((), {})
    with company(tmp_path, *options, before="import trillm.parent; trillm.parent.BALANCES = False", **more) as program:

        async def one() -> None:
            over = {"transport": httpx.AsyncHTTPTransport(uds=str(path)), "base_url": "http://localhost"}
            async with client(program, **(over if where == "uds" else {})) as each:
                assert (await each.post("/v1/chat/completions", json=CHAT)).status_code == 200

        async with trio.open_nursery() as nursery:
            for _ in range(60):
                nursery.start_soon(one)
        assert len(served_by(program)) > 1


# ── the end ─────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_stop_lets_every_worker_finish_what_it_has(tmp_path):
    with serving_sim("--ttft", "1.5", "--itl", "0.05") as url:
        with_server(tmp_path, url)
        with company(tmp_path) as program:
            replies: list[httpx.Response] = []

            async def one() -> None:
                replies.append(await ask(program, chat(stream=True)))

            async with trio.open_nursery() as nursery:
                for _ in range(20):
                    nursery.start_soon(one)
                await until(lambda: in_flight(program, 20))
                program.process.send_signal(signal.SIGTERM)
                await trio.sleep(0.5)
                with pytest.raises(httpx.TransportError):  # refused, or reset by a worker that has just heard of it
                    await ask(program)
            assert all(events(reply.text)[-1] == "[DONE]" for reply in replies)
            assert await trio.to_thread.run_sync(program.process.wait) == 0
            assert not program.run_file.exists()
    assert "module failed" not in program.log.read_text()


async def test_a_second_signal_stops_at_once(tmp_path):
    with serving_sim("--ttft", "30") as url:
        with_server(tmp_path, url)
        with company(tmp_path, "--chat-budget", "60") as program:
            async with trio.open_nursery() as nursery:

                async def cut() -> None:
                    with pytest.raises(httpx.RemoteProtocolError):
                        await ask(program)

                nursery.start_soon(cut)
                await until(lambda: in_flight(program, 1))
                workers = workers_of(program)
                began = time.monotonic()
                program.process.send_signal(signal.SIGINT)
                await trio.sleep(0.5)
                program.process.send_signal(signal.SIGINT)
                assert await trio.to_thread.run_sync(program.process.wait) == 0
                assert time.monotonic() - began < 5
            assert not any(map(exists, workers.values()))


@pytest.mark.parametrize("after_s", [0.5, 1.0, 1.5, 2.5])
def test_a_signal_while_workers_start_ends_them(tmp_path, after_s):
    command = [sys.executable, "-m", "trillm", "--config", str(tmp_path / "s.json"), "serve", "--port", "0"]
    with subprocess.Popen([*command, "--workers", "3"], stderr=subprocess.PIPE) as process:
        time.sleep(after_s)
        program = Program(process, tmp_path / "s.json", tmp_path / "log")
        workers = workers_of(program)
        process.send_signal(signal.SIGTERM)
        process.stderr.read()
        # Before it has a handler of its own, the signal's is the system's.
        assert process.wait(20) in (0, -signal.SIGTERM)
    assert not any(map(exists, workers.values()))
    assert not program.run_file.exists()


@pytest.mark.parametrize("stopped", [False, True])
def test_a_parent_that_is_killed_leaves_no_process_behind(tmp_path, stopped):
    with company(tmp_path) as program:
        workers = workers_of(program)
        assert len(workers) == WORKERS
        if stopped:  # an event loop that does not run cannot notice anything
            os.kill(workers[1], signal.SIGSTOP)
        program.process.send_signal(signal.SIGKILL)
        program.process.wait()
        others = [pid for number, pid in workers.items() if not (stopped and number == 1)]
        wait_for(lambda: not any(map(exists, others)), within_s=8)
        if stopped:
            os.kill(workers[1], signal.SIGCONT)
            wait_for(lambda: not exists(workers[1]), within_s=8)


def test_a_port_in_use_is_found_before_any_worker_starts(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        ended = cli(tmp_path / "s.json", "serve", "--port", port, "--workers", "2", check=False)
    assert ended.returncode == 1
    assert "the port is in use" in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_two_companies_do_not_share_a_port(tmp_path):
    (tmp_path / "other").mkdir()
    with company(tmp_path) as program:
        port = program.url.rpartition(":")[2]
        ended = cli(tmp_path / "other" / "s.json", "serve", "--port", port, "--workers", "2", check=False)
        assert ended.returncode == 1
        assert "the port is in use" in ended.stderr


def test_workers_that_cannot_start_end_the_program_with_the_reason(tmp_path):
    before = (
        "import sys; sys.path.insert(0, '.'); import trillm.settings as s; s.ServeSettings.encoded = lambda _: b'no'"
    )
    config = tmp_path / "s.json"
    command = [sys.executable, "-c", f"{before}; from trillm.cli import main; main()", "--config", str(config)]
    ended = subprocess.run(
        [*command, "serve", "--port", "0", "--workers", "3"], capture_output=True, text=True, timeout=30, check=False
    )
    assert ended.returncode == 1
    assert "trillm: " in ended.stderr.splitlines()[-1]


async def test_a_session_of_mcp_is_its_workers_and_the_others_say_so(tmp_path):
    hello = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}
    headers = {"accept": "application/json, text/event-stream"}

    def asked(method, params):
        return {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}

    with company(tmp_path) as program:
        async with client(program, headers=headers) as one:
            began = await one.post("/mcp", json=asked("initialize", hello))
            assert began.status_code == 200, began.text
            mine = {"mcp-session-id": began.headers["mcp-session-id"]}
            statuses = Counter()
            for _ in range(40):
                async with client(program, headers=headers) as other:
                    reply = await other.post("/mcp", json=asked("ping", {}), headers=mine)
                statuses[reply.status_code] += 1
                if reply.status_code == 421:
                    assert "lives in another worker process" in reply.json()["error"]["message"]
            assert set(statuses) == {200, 421}
            assert (await one.post("/mcp", json=asked("ping", {}), headers=mine)).status_code == 200
            gone = await one.post("/mcp", json=asked("ping", {}), headers={"mcp-session-id": "w9-0"})
            assert gone.status_code == 421
            gone = await one.post("/mcp", json=asked("ping", {}), headers={"mcp-session-id": "0"})
            assert gone.status_code == 404
