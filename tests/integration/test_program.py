"""The whole program as a subprocess: start, follow the registry, stop, crash."""

import json
import signal
import socket
import subprocess
import sys
import threading
import time

import httpx
import pytest
from support.program import cli, serving, serving_sim, wait_for
from support.running import CHAT, chat, events

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals are sent as on POSIX")


def get(program, path):
    return httpx.get(program.url + path, trust_env=False)


def post(program, body, **more):
    return httpx.post(f"{program.url}/v1/chat/completions", json=body, trust_env=False, timeout=30, **more)


def test_an_empty_registry_serves_the_builtin_backend_and_says_so(tmp_path):
    with serving(tmp_path, "--no-discover") as program:
        banner = program.log.read_text()
        assert "BUILTIN backend answers: a simulator, not a language model" in banner
        assert post(program, CHAT).json()["choices"][0]["message"]["content"].startswith("Simulated answer")
        curl = next(line.strip() for line in banner.splitlines() if line.strip().startswith("curl "))
        answered = subprocess.run(curl, shell=True, capture_output=True, text=True, check=True)
        assert json.loads(answered.stdout)["object"] == "chat.completion"
        lines = banner.splitlines()
        first = next(i for i, line in enumerate(lines) if "from openai import OpenAI" in line)
        snippet = "\n".join(line.strip() for line in lines[first : first + 5])
        printed = subprocess.run([sys.executable, "-c", snippet], capture_output=True, text=True, check=True)
        assert printed.stdout.startswith("Simulated answer")


def test_the_first_answer_comes_soon_after_the_command(tmp_path):
    # Generous: machines here are shared. The benchmark has the figure.
    began = time.monotonic()
    with serving(tmp_path, "--no-discover") as program:
        assert get(program, "/health/live").status_code == 200
        assert time.monotonic() - began < 10


def test_the_running_server_follows_the_command_line_within_a_second(tmp_path):
    with serving(tmp_path, "--no-discover") as one, serving_sim() as sim_url:
        one.cli("server", "add", "gpu1", sim_url)
        wait_for(lambda: is_up(one, "gpu1"), within_s=1.5)
        assert "builtin" not in status(one)
        assert post(one, chat(model="gpu1/sim-chat")).status_code == 200
        one.cli("server", "disable", "gpu1")
        wait_for(lambda: status(one)["gpu1"]["state"] == "disabled", within_s=1.5)
        assert post(one, chat(model="gpu1/sim-chat")).status_code == 404
        one.cli("server", "remove", "gpu1")
        wait_for(lambda: "builtin" in status(one), within_s=1.5)


def status(program):
    listed = json.loads(program.cli("server", "list", "--json").stdout)
    return {server["name"]: server for server in listed["servers"]}


def is_up(program, name):
    return status(program).get(name, {}).get("state") == "up"


def test_a_broken_edit_keeps_the_last_good_state_and_is_shown_everywhere(tmp_path):
    with serving(tmp_path, "--no-discover") as program, serving_sim() as url:
        program.cli("server", "add", "gpu1", url)
        wait_for(lambda: is_up(program, "gpu1"), within_s=2)
        program.config.write_text('{"version": 1, "servers": {"gpu1": {"url": "nonsense"}}}')
        wait_for(lambda: get(program, "/health/ready").json()["registry_error"], within_s=2)
        assert "servers.gpu1.url" in get(program, "/health/ready").json()["registry_error"]
        assert get(program, "/health/ready").status_code == 200
        assert post(program, chat(model="gpu1/sim-chat")).status_code == 200
        assert "servers.gpu1.url" in program.log.read_text()
        listed = program.cli("server", "list", check=False)
        assert "servers.gpu1.url" in listed.stdout + listed.stderr


def test_keys_take_effect_and_are_revoked_while_it_runs(tmp_path):
    with serving(tmp_path, "--no-discover") as program:
        assert get(program, "/v1/models").status_code == 200
        token = program.cli("key", "create", "laptop").stdout.strip()
        wait_for(lambda: get(program, "/v1/models").status_code == 401, within_s=1.5)
        with_key = {"authorization": f"Bearer {token}"}
        assert post(program, CHAT, headers=with_key).status_code == 200
        program.cli("key", "revoke", "laptop")
        wait_for(lambda: get(program, "/v1/models").status_code == 200, within_s=1.5)
        assert token not in program.log.read_text()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_running_requests_finish(tmp_path, number):
    with serving(tmp_path, "--no-discover") as program:
        replies = []
        body = chat(x_sim={"ttft_s": 1.0})
        caller = threading.Thread(target=lambda: replies.append(post(program, body)))
        url = program.url
        caller.start()
        time.sleep(0.4)
        program.process.send_signal(number)
        time.sleep(0.2)
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{url}/health/live", trust_env=False)
        caller.join()
        assert replies[0].status_code == 200
        assert program.process.wait(5) == 0
        assert not program.run_file.exists()


def test_a_stream_that_outlasts_the_drain_is_told_so(tmp_path):
    with serving(tmp_path, "--no-discover", "--drain", "1.5") as program:
        body = chat(stream=True, x_sim={"itl_s": 0.1, "tokens": 1000})
        with httpx.stream(
            "POST", f"{program.url}/v1/chat/completions", json=body, trust_env=False, timeout=30
        ) as reply:
            program.process.send_signal(signal.SIGTERM)
            text = reply.read().decode()
        assert events(text)[-1]["error"]["code"] == "stopping"
        assert "[DONE]" not in text
        assert program.process.wait(5) == 0


def test_a_second_signal_stops_at_once(tmp_path):
    with serving(tmp_path, "--no-discover", "--drain", "60") as program:
        body = chat(stream=True, x_sim={"itl_s": 0.1, "tokens": 1000})
        with httpx.stream("POST", f"{program.url}/v1/chat/completions", json=body, trust_env=False) as reply:
            pieces = reply.iter_raw()
            next(pieces)
            program.process.send_signal(signal.SIGTERM)
            time.sleep(0.3)
            assert program.process.poll() is None
            program.process.send_signal(signal.SIGTERM)
            assert program.process.wait(3) == 0


def test_kill_9_while_it_serves_leaves_the_registry_as_it_was(tmp_path):
    for _ in range(3):
        with serving(tmp_path, "--no-discover") as program:
            program.cli("server", "add", "gpu1", "http://gpu1.example:8000", "--no-check", "--replace")
            before = program.config.read_bytes()
            program.process.kill()
            program.process.wait()
        assert program.config.read_bytes() == before
        assert cli(program.config, "server", "list").returncode == 0
        program.run_file.unlink()


def test_a_port_in_use_is_one_clear_line(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        failed = cli(tmp_path / "servers.json", "serve", "--no-discover", "--port", port, check=False)
    assert failed.returncode == 1
    assert "in use" in failed.stderr
    assert "Traceback" not in failed.stderr


def test_logs_are_json_when_asked_for(tmp_path):
    with serving(tmp_path, "--no-discover", "--log-format", "json") as program:
        post(program, CHAT)
        wait_for(lambda: '"message": "request"' in program.log.read_text(), within_s=2)
    lines = [json.loads(line) for line in program.log.read_text().splitlines() if line.startswith("{")]
    request = next(line for line in lines if line["message"] == "request")
    assert request["outcome"] == "ok"
    assert request["server"] == "builtin"
    assert "Hello" not in program.log.read_text().replace(banner_of(program), "")


def banner_of(program):
    text = program.log.read_text()
    return text[text.index("trillm serves") : text.index("print(reply")]
