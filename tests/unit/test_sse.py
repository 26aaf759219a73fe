"""The scanner of server-sent events: what servers send, how it is cut, and what leaves."""

import itertools
import json
import time

import pytest
from fuzz import scanner
from hypothesis import given
from hypothesis import strategies as st

from trillm.sse import Frame, Kind, Scanner, Usage

META, CONTENT, FINISH, ERROR = Kind.META, Kind.CONTENT, Kind.FINISH, Kind.ERROR
DONE, COMMENT, MALFORMED = Kind.DONE, Kind.COMMENT, Kind.MALFORMED


def data(value) -> bytes:
    return b"data: " + (value if isinstance(value, bytes) else json.dumps(value).encode()) + b"\n\n"


def chunk(delta=None, finish_reason=None, *, index=0, **members) -> bytes:
    choice = {"index": index, "delta": delta or {}, "finish_reason": finish_reason}
    return data({"id": "c", "object": "chat.completion.chunk", "choices": [choice]} | members)


ROLE = chunk({"role": "assistant", "content": ""})
TOKEN = chunk({"content": "Hi"})
STOP = chunk({}, "stop")
USAGE = data({"id": "c", "choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}})
END = b"data: [DONE]\n\n"


def scan(*pieces: bytes) -> tuple[Scanner, list[Frame]]:
    scanner = Scanner()
    frames = [frame for piece in pieces for frame in scanner.feed(piece)]
    return scanner, frames + scanner.end()


def only(event: bytes) -> Frame:
    _, (frame,) = scan(event)
    return frame


def feed_in_steps(scanner: Scanner, stream: bytes, step: int) -> list[Frame]:
    return [frame for i in range(0, len(stream), step) for frame in scanner.feed(stream[i : i + step])]


def kinds(*pieces: bytes) -> list[Kind]:
    return [frame.kind for frame in scan(*pieces)[1]]


# ── what servers send, from first byte to last ──────────────────────────────────────────────────────────────────

VLLM_ERROR = {"error": {"message": "engine died", "type": "InternalServerError", "param": None, "code": 500}}
LLAMA_ERROR = {"error": {"code": 500, "message": "context shift is disabled", "type": "server_error"}}

STREAMS = {
    "openai": (ROLE + TOKEN + STOP + END, [META, CONTENT, FINISH, DONE], True),
    "openai with usage": (TOKEN + STOP + USAGE + END, [CONTENT, FINISH, META, DONE], True),
    "openai fails": (TOKEN + data({"error": {"message": "m", "type": "server_error"}}), [CONTENT, ERROR], False),
    "vllm fails": (ROLE + TOKEN + data(VLLM_ERROR) + END, [META, CONTENT, ERROR, DONE], False),
    "vllm keeps alive": (b": keep-alive\n\n" + TOKEN + STOP + END, [COMMENT, CONTENT, FINISH, DONE], True),
    "llama.cpp": (b":\n\n" + ROLE + TOKEN + STOP + END, [COMMENT, META, CONTENT, FINISH, DONE], True),
    "llama.cpp fails": (TOKEN + data(LLAMA_ERROR), [CONTENT, ERROR], False),
    "llama.cpp of old fails": (TOKEN + b'error: {"code":500,"message":"m"}\n\n', [CONTENT, ERROR], False),
    "llama.cpp messages fails": (b"event: error\n" + data(LLAMA_ERROR["error"]), [ERROR], False),
    "ollama": (chunk({"role": "assistant", "content": "Hi"}) + STOP + END, [CONTENT, FINISH, DONE], True),
    "ollama swallows its error": (TOKEN + chunk({"role": "assistant", "content": ""}), [CONTENT, META], False),
    "litellm pings": (b": ping\n\n" + TOKEN + STOP + END, [COMMENT, CONTENT, FINISH, DONE], True),
    "litellm fails": (data({"error": {"message": "m", "code": "500"}}) + END, [ERROR, DONE], False),
    "vllm messages fails": (b'event: error\ndata: {"type":"error","error":{"message":"m"}}\n\n', [ERROR], False),
    "finish without [DONE]": (TOKEN + STOP, [CONTENT, FINISH], True),
    "[DONE] without finish": (TOKEN + END, [CONTENT, DONE], True),
    "cut": (ROLE + TOKEN, [META, CONTENT], False),
    "cut in a frame": (TOKEN + STOP[:-20], [CONTENT, MALFORMED], False),
    "cut before the empty line": (TOKEN + STOP.rstrip(), [CONTENT, FINISH], True),
    "[DONE] without the empty line": (TOKEN + END.rstrip(), [CONTENT, DONE], True),
    "nothing": (b"", [], False),
    "only keep-alives": (b":\n\n: ping\n\n", [COMMENT, COMMENT], False),
}


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_is_read_as_its_server_means_it(name):
    stream, expected, complete = STREAMS[name]
    scanner, frames = scan(stream)
    assert [frame.kind for frame in frames] == expected
    assert scanner.complete is complete


@pytest.mark.parametrize("name", STREAMS)
@pytest.mark.parametrize("newline", [b"\n", b"\r\n", b"\r"], ids=["LF", "CRLF", "CR"])
def test_byte_by_byte_with_any_line_ends_it_says_the_same(name, newline):
    stream = STREAMS[name][0]
    whole, frames = scan(stream)
    written = stream.replace(b"\n", newline)
    split, same_frames = scan(*(written[i : i + 1] for i in range(len(written))))
    assert same_frames == frames
    assert (split.complete, split.malformed) == (whole.complete, whole.malformed)


# ── single frames ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("event", "kind"),
    [
        (chunk({"content": " "}), CONTENT),
        (chunk({"reasoning": "hm"}), Kind.THOUGHT),
        (chunk({"reasoning_content": "hm", "content": None}), Kind.THOUGHT),
        (chunk({"reasoning_content": "hm", "content": "so"}), Kind.THOUGHT),
        (chunk({"reasoning_content": "", "content": "so"}), CONTENT),
        (chunk({"refusal": "no"}), CONTENT),
        (chunk({"role": "assistant", "content": "Hi"}), CONTENT),
        (chunk({"tool_calls": [{"index": 0, "function": {"arguments": "{"}}]}), Kind.CALL),
        (chunk({"content": "Hi", "tool_calls": [{"function": {"name": "f"}}]}), Kind.CALL),
        (chunk({"function_call": {"name": "f"}}), CONTENT),
        (data({"object": "text_completion", "choices": [{"index": 0, "text": "Hi"}]}), CONTENT),
        (data({"choices": [{"index": 0, "text": ""}]}), META),
        (chunk({}), META),
        (chunk({"role": "assistant"}), META),
        (chunk({"role": "assistant", "content": None, "tool_calls": [], "audio": {}}), META),
        (data({"choices": [{"index": 0, "delta": None}]}), META),
        (data({"choices": []}), META),
        (data({"choices": [], "prompt_filter_results": [{}]}), META),
        (USAGE, META),
        (data({"usage": {"prompt_tokens": 1}}), META),
        (chunk({"content": "Hi"}, "stop"), FINISH),
        (chunk({}, "tool_calls"), FINISH),
        (chunk({}, "load"), FINISH),
        (chunk({"content": "Hi"}, ""), CONTENT),
        (data({"choices": [{"delta": {"content": "a"}}, {"index": 1, "finish_reason": "stop"}]}), FINISH),
    ],
)
def test_content_is_what_a_reader_would_see(event, kind):
    assert only(event) == Frame(kind, event, usage=only(event).usage)


@pytest.mark.parametrize(
    "value",
    [
        {"anything": 1},
        {},
        {"choices": "of another kind"},
        {"choices": [None]},
        {"choices": [{"delta": "Hi"}]},
        {"choices": [{"index": "first", "delta": {}}]},
        {"type": "response.output_text.delta", "delta": "Hi"},
        {"content": "Hi", "stop": False},
    ],
)
def test_an_object_of_unknown_shape_is_the_clients_to_judge(value):
    scanner, frames = scan(data(value))
    assert frames == [Frame(CONTENT, data(value))]
    assert not scanner.complete
    assert scanner.malformed == 0


@pytest.mark.parametrize(
    ("event", "error"),
    [
        (data({"error": {"message": "m", "code": 500}}), {"message": "m", "code": 500}),
        (data({"error": "m"}), "m"),
        (data({"error": {"message": "m"}, "choices": [{"index": 0, "finish_reason": "error"}]}), {"message": "m"}),
        (data({"object": "error", "message": "m", "code": 1}), {"message": "m", "type": None, "code": 1}),
        (data({"type": "error", "message": "m"}), {"message": "m", "type": "error", "code": None}),
        (data({"type": "error", "error": {"message": "m"}}), {"message": "m"}),
        (b"event: error\n" + data({"error": {"message": "m"}}), {"message": "m"}),
        (b"event: error\n" + data({"message": "m"}), {"message": "m"}),
        (b"event: error\n" + data({"error": "m"}), "m"),
        (b'event: error\ndata: "m"\n\n', "m"),
        (b"event:error\ndata:out of memory\n\n", "out of memory"),
        (b"event: error\ndata: \xff\n\n", "\ufffd"),
        (b'error: {"code":500,"message":"m"}\n\n', {"code": 500, "message": "m"}),
        (b'error: {"error":{"message":"m"}}\n\n', {"message": "m"}),
    ],
)
def test_an_error_is_seen_in_every_shape_that_is_about(event, error):
    scanner, (frame,) = scan(event)
    assert (frame.kind, frame.error) == (ERROR, error)
    assert not scanner.complete


@pytest.mark.parametrize("nothing", [None, "", {}, False])
def test_an_empty_error_member_is_no_error(nothing):
    assert only(chunk({"content": "Hi"}, error=nothing)).kind is CONTENT


@pytest.mark.parametrize(
    "event",
    [
        b": ping\n\n",
        b":\n\n",
        b": several\n: lines\n\n",
        b"event: ping\n\n",
        b"id: 7\n\n",
        b"retry: 3000\n\n",
        b"data:\n\n",
        b"data: \n\n",
        b"data\n\n",
        b"event: error\n\n",
        b'{"error": "a line that is no field"}\n\n',
    ],
)
def test_an_event_without_data_leaves_as_a_bare_comment(event):
    assert only(event) == Frame(COMMENT, b": \n\n")


@pytest.mark.parametrize(
    "payload",
    [
        b'{"choices":[{"delta":{"content":"H',
        b"Internal Server Error",
        b"[1, 2]",
        b"null",
        b"7",
        b'"text"',
        b"{'choices': []}",
        b'{"choices":[]} {"choices":[]}',
        b'{"choices":[{"delta":{"content":"\xff"}}]}',
        b'{"unseen":"\xc3"}',
        b'{"choices":[{"delta":{"content":"\x01"}}]}',
        b'{"logprob": NaN, "choices": []}',
        b'{"deep":' + b"[" * 500_000 + b"]" * 500_000 + b"}",
        b"[done]",
    ],
)
def test_what_a_client_would_choke_on_is_dropped_and_counted(payload):
    scanner, frames = scan(TOKEN + data(payload) + STOP)
    assert frames == [Frame(CONTENT, TOKEN), Frame(MALFORMED, b""), Frame(FINISH, STOP)]
    assert (scanner.malformed, scanner.complete) == (1, True)


def test_blanks_that_json_does_not_know_are_malformed_wherever_they_stand():
    scanner = Scanner()
    frames = scanner.feed(TOKEN[:-2] + b"\x0b\n\n") + scanner.feed(TOKEN[:-2] + b"\x0b\n\n" + TOKEN)
    assert [frame.kind for frame in frames] == [MALFORMED, MALFORMED, CONTENT]


@pytest.mark.parametrize(
    "event",
    [
        b"id: 7\n" + TOKEN,
        b"event: message\n" + TOKEN,
        b"retry: 10\nid\n" + TOKEN,
        b": ping\n" + TOKEN,
        TOKEN.rstrip() + b"\nid: 7\n\n",
        TOKEN.rstrip() + b"\nevent: chunk\n: bye\n\n",
        TOKEN.rstrip() + b"\nerror: ignored where there is data\n\n",
    ],
)
def test_nothing_but_data_leaves(event):
    assert only(event) == Frame(CONTENT, TOKEN)


def test_data_over_several_lines_is_one_frame():
    event = b'data: {"choices":\ndata: [{"delta":\ndata:{"content":"Hi"}}]}\n\n'
    frame = only(event)
    assert frame.kind is CONTENT
    assert frame.raw == event.replace(b"data:{", b"data: {")


@pytest.mark.parametrize("event", [b"data:[DONE]\n\n", b"data: [DONE] \n\n", b"id: 1\ndata: [DONE]\n\n"])
def test_done_leaves_as_everyone_writes_it(event):
    assert only(event) == Frame(DONE, END)


def test_data_without_a_space_goes_out_as_it_came():
    event = TOKEN.replace(b"data: ", b"data:")
    assert only(event) == Frame(CONTENT, event)


def test_nothing_follows_done():
    assert kinds(TOKEN + END + TOKEN, TOKEN, b"data: cut") == [CONTENT, DONE]


def test_usage_is_told_wherever_it_comes():
    frames = scan(chunk({"content": "Hi"}, usage={"prompt_tokens": 3, "completion_tokens": 1}) + STOP + USAGE)[1]
    assert [frame.usage for frame in frames] == [Usage(3, 1), None, Usage(3, 4)]


def test_usage_comes_with_a_finish_too():
    assert only(chunk({}, "stop", usage={"prompt_tokens": 3})).usage == Usage(3, None)


# ── endings ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_choice_that_never_finished_leaves_the_stream_incomplete():
    one, other = chunk({"content": "a"}, index=0), chunk({"content": "b"}, index=1)
    scanner, _ = scan(one + other + chunk({}, "stop", index=1))
    assert not scanner.finished
    scanner, _ = scan(one + other + chunk({}, "stop", index=1) + chunk({}, "length", index=0))
    assert scanner.finished


def test_what_comes_after_a_finish_does_not_undo_it():
    scanner, _ = scan(TOKEN + STOP + chunk({}) + USAGE)
    assert scanner.finished


# ── pieces and sizes ────────────────────────────────────────────────────────────────────────────────────────────

EVENTS = st.sampled_from(
    [
        ROLE,
        TOKEN,
        chunk({"content": "größer 漢字 🦙"}),
        data('{"choices":[{"delta":{"content":"größer 漢字 🦙"}}]}'.encode()),
        STOP,
        USAGE,
        data(VLLM_ERROR),
        b": ping\n\n",
        b"id: 3\nevent: x\n" + TOKEN,
        b"data: {broken\n\n",
        b"\n\n\n",
        b"data: a\ndata: b\n\n",
        END,
    ]
)


@given(
    events=st.lists(EVENTS, max_size=8),
    newline=st.sampled_from([b"\n", b"\r\n", b"\r"]),
    cuts=st.lists(st.integers(0, 2000), max_size=12),
    dropped=st.integers(0, 3),
)
def test_however_the_bytes_are_cut_the_frames_are_the_same(events, newline, cuts, dropped):
    stream = b"".join(events).replace(b"\n", newline)
    stream = stream[: len(stream) - dropped]
    places = [0, *sorted(cut for cut in cuts if cut < len(stream)), len(stream)]
    pieces = [stream[a:b] for a, b in itertools.pairwise(places)]
    whole, frames = scan(stream)
    split, same_frames = scan(*pieces)
    assert same_frames == frames
    assert (split.complete, split.malformed) == (whole.complete, whole.malformed)


@given(
    stream=st.binary(max_size=300)
    | st.text('data:\r\n{}[]DONE"e id', max_size=80).map(str.encode)
    | st.lists(EVENTS, max_size=6).map(b"".join),
    steps=st.binary(max_size=4),
)
def test_whatever_comes_and_in_whatever_pieces_what_leaves_is_sound(stream, steps):
    scanner.check(stream, steps)


def test_a_frame_is_told_with_its_last_byte_and_not_before():
    scanner = Scanner()
    assert scanner.feed(TOKEN[:-1]) == []
    assert scanner.feed(TOKEN[-1:]) == [Frame(CONTENT, TOKEN)]


def test_a_stream_of_bare_carriage_returns_is_not_held_back():
    assert Scanner().feed(TOKEN.replace(b"\n", b"\r")) == [Frame(CONTENT, TOKEN)]


def test_a_frame_at_the_limit_passes():
    size = len(TOKEN) - 2
    assert feed_in_steps(Scanner(max_frame_bytes=size), TOKEN, 1) == [Frame(CONTENT, TOKEN)]


def test_an_empty_line_before_a_frame_does_not_count_however_it_comes():
    scanner = Scanner(max_frame_bytes=len(TOKEN) - 2)
    assert feed_in_steps(scanner, b"\n\n\n" + TOKEN, 1) == [Frame(CONTENT, TOKEN)]


@pytest.mark.parametrize("step", [1, 7, 1000])
def test_a_frame_over_the_limit_is_no_frame(step):
    scanner = Scanner(max_frame_bytes=len(TOKEN) - 3)
    with pytest.raises(ValueError, match="grew beyond"):
        feed_in_steps(scanner, TOKEN, step)


def test_a_line_that_never_ends_is_given_up_at_the_limit():
    with pytest.raises(ValueError, match="grew beyond 1000 bytes"):
        feed_in_steps(Scanner(max_frame_bytes=1000), b"x" * 2000, 100)


def test_a_large_frame_in_small_pieces_does_not_take_quadratic_time():
    frame = chunk({"content": "x" * 2_000_000})
    began = time.process_time()
    frames = feed_in_steps(Scanner(), frame, 100)
    took_s = time.process_time() - began
    assert [frame.kind for frame in frames] == [CONTENT]
    assert took_s < 2  # many times that when each piece searches all that came before


def test_many_frames_in_one_piece_do_not_take_quadratic_time():
    began = time.process_time()
    assert len(Scanner().feed(TOKEN * 20_000)) == 20_000
    assert time.process_time() - began < 3
