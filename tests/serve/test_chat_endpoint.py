"""Requests as clients of OpenAI's chat protocol send them, to a real server with the tiny model."""

import base64
import http.client
import io
import json
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from PIL import Image
from served import ask, running

from vtg import predict
from vtg.evaluation.ask_settings import ask_settings
from vtg.serve.chat_app import ChatEndpoint, chat_app
from vtg.serving.admission import Admission
from vtg.serving.limits import Limits
from vtg.serving.model_worker import ModelWorker

COMPLETIONS = "/v1/chat/completions"


def video_part(url: object) -> dict[str, Any]:
    return {"type": "video_url", "video_url": {"url": str(url)}}


def request_of(video: object, query: str | None = "a red square", **more: Any) -> dict[str, Any]:
    part = video if isinstance(video, dict) else video_part(video)
    text = [] if query is None else [{"type": "text", "text": query}]
    return {"model": "tiny", "messages": [{"role": "user", "content": [part, *text]}], **more}


def data_url(path: Path) -> str:
    return f"data:video/mp4;base64,{base64.b64encode(path.read_bytes()).decode()}"


def picture_url(grey: int) -> str:
    made = io.BytesIO()
    Image.new("RGB", (64, 64), (grey, grey, grey)).save(made, "JPEG")
    return f"data:image/jpeg;base64,{base64.b64encode(made.getvalue()).decode()}"


def test_answers_are_those_of_predict(
    served, videos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [f"video={videos[0]}", "query=a red square", "json=true", f"output_dir={tmp_path}", "max_new_tokens=16"]
    monkeypatch.setattr(sys, "argv", ["vtg.predict", *words])
    predict.main()
    row = json.loads(capsys.readouterr().out)
    for video in (videos[0], data_url(videos[0])):
        status, _, document = ask(served.url + COMPLETIONS, request_of(video))
        assert status == 200, document
        [choice] = document["choices"]
        own = choice["message"]["vtg"]
        assert choice["message"]["content"] == own["text"] == row["text"]
        assert (own["moments"], own["status"]) == (row["prediction"], row["status"])
        assert own["duration_s"] == row["duration"] and own["query"] == "a red square"
        assert own["timestamps_s"][0] == 0 and own["timestamps_s"][-1] < row["duration"]
        counts = document["usage"]
        assert counts["prompt_tokens"] > len(own["timestamps_s"]) and 0 < counts["completion_tokens"] <= 16
        assert counts["total_tokens"] == counts["prompt_tokens"] + counts["completion_tokens"]
    assert not list(served.admission.folder.iterdir())


def test_clients_that_ask_at_once_get_what_each_gets_alone(served, videos: list[Path]) -> None:
    queries = ["a red square", "the ball", "nothing"]
    requests = [request_of(path, None, vtg={"queries": queries}) for path in videos[:4]]
    requests.append(request_of(videos[0], "the ball", vtg={"video_start": 1.0, "video_end": 3.0}))
    alone = [ask(served.url + COMPLETIONS, one).body["choices"] for one in requests]
    assert [len(choices) for choices in alone] == [3, 3, 3, 3, 1]
    with ThreadPoolExecutor(10) as pool:
        together = list(pool.map(lambda one: ask(served.url + COMPLETIONS, one).body["choices"], requests * 2))
    assert together == alone * 2
    assert [choice["index"] for choice in alone[0]] == [0, 1, 2]
    assert alone[4][0]["message"]["vtg"]["duration_s"] == 2.0


def test_the_answer_can_be_json_and_can_come_as_events(served, videos: list[Path]) -> None:
    plain = ask(served.url + COMPLETIONS, request_of(videos[0])).body
    as_json = ask(served.url + COMPLETIONS, request_of(videos[0], response_format={"type": "json_object"})).body
    own = plain["choices"][0]["message"]["vtg"]
    content = json.loads(as_json["choices"][0]["message"]["content"])
    assert content == {"moments": own["moments"], "status": own["status"]}
    streamed = request_of(videos[0], stream=True, stream_options={"include_usage": True})
    status, headers, text = ask(served.url + COMPLETIONS, streamed)
    assert status == 200 and headers["content-type"].startswith("text/event-stream")
    *events, end = (line.removeprefix("data: ") for line in text.split("\n\n") if line)
    events = [json.loads(event) for event in events]
    assert end == "[DONE]" and len({event["id"] for event in events}) == 1
    whole, last, counts = events
    assert whole["choices"][0]["delta"]["content"] == plain["choices"][0]["message"]["content"]
    assert whole["choices"][0]["delta"]["vtg"] == own
    assert last["choices"][0]["finish_reason"] == plain["choices"][0]["finish_reason"]
    assert counts["usage"] == plain["usage"] and counts["choices"] == []


def test_frames_with_their_times_are_a_video(served) -> None:
    frames = {"type": "video", "video": [picture_url(grey) for grey in (0, 60, 120, 180)], "duration_s": 9.0}
    timed = ask(served.url + COMPLETIONS, request_of(frames | {"timestamps_s": [0, 1.25, 3, 8]})).body
    own = timed["choices"][0]["message"]["vtg"]
    assert own["timestamps_s"] == [0, 1.25, 3, 8] and own["duration_s"] == 9.0
    even = ask(served.url + COMPLETIONS, request_of({**frames, "fps": 2, "duration_s": None})).body
    own = even["choices"][0]["message"]["vtg"]
    assert own["timestamps_s"] == [0, 0.5, 1, 1.5] and own["duration_s"] == 2.0


def test_it_says_what_it_serves(served) -> None:
    models = ask(f"{served.url}/v1/models").body
    assert [model["id"] for model in models["data"]] == ["tiny"]
    assert ask(f"{served.url}/v1/models/tiny").body == models["data"][0]
    assert ask(f"{served.url}/v1/models/other").status == 404
    assert ask(f"{served.url}/v1/none").body["error"]["message"] == "Not Found"
    health = ask(f"{served.url}/health")
    assert health.status == 200 and health.body["status"] == "ok" and health.body["model"] == "tiny"


@pytest.mark.parametrize(
    ("change", "status", "said"),
    [
        ({"model": "gpt-4o"}, 404, "model 'gpt-4o': this server has 'tiny' alone"),
        ({"model": None}, 400, "model: is missing; must be a text"),
        ({"messages": []}, 400, "messages of []: give one, of the user"),
        ({"messages": [{"role": "system", "content": "x"}]}, 400, "messages of ['system']"),
        ({"messages": [{"role": "user", "content": "when?"}]}, 400, "content: must be a list of parts"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "when?"}]}]}, 400, "0 videos: give one"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}]},
            400,
            "content part of type 'image_url': must be text, video_url, or video",
        ),
        ({"temperature": 0.7}, 400, "temperature = 0.7: answers are greedy"),
        ({"tools": []}, 400, "tools: is not understood by this server"),
        ({"n": 2}, 400, "n = 2: answers are greedy, one for each query"),
        ({"max_tokens": 3}, 400, "max_tokens = 3: an answer takes up to 16 tokens"),
        ({"response_format": {"type": "json_schema"}}, 400, "must be text or json_object"),
        ({"stream": "yes"}, 400, "stream: is 'yes'; must be true or false"),
        ({"vtg": {"query": "x"}}, 400, "vtg.query: there is no such field; they are queries"),
        ({"vtg": {"queries": ["x"]}}, 400, "give the queries in one of them"),
        ({"vtg": {"video_start": -1}}, 400, "video_start = -1: must be a number, at least 0"),
        ({"vtg": {"video_start": 3, "video_end": 1}}, 400, "must be 0 <= video_start < video_end"),
        ({"vtg": {"video_start": 900, "video_end": 901}}, 400, "video_start"),
    ],
)
def test_what_is_not_understood_is_refused(served, videos, change: dict[str, Any], status: int, said: str) -> None:
    answer = ask(served.url + COMPLETIONS, request_of(videos[0]) | change)
    assert answer.status == status, answer.body
    error = answer.body["error"]
    assert said in error["message"] and error["type"] == "invalid_request_error" and error["code"]


def test_sampling_that_changes_nothing_is_taken(served, videos: list[Path]) -> None:
    more = {"temperature": 0, "top_p": 1.0, "n": 1, "seed": 3, "user": "me", "max_tokens": 100, "stop": None}
    assert ask(served.url + COMPLETIONS, request_of(videos[0], **more)).status == 200


PLAYLISTS = {
    "HLS": "#EXTM3U\n#EXTINF:1,\nSECRET\n",
    "concat": "ffconcat version 1.0\nfile 'SECRET'\n",
    "SDP": "v=0\nc=IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\n",
    "DASH": '<?xml version="1.0"?><MPD><BaseURL>SECRET</BaseURL></MPD>',
    "text": "this is no video",
    "picture": "P3\n1 1\n255\n1 1 1\n",
    "nothing": "",
}


@pytest.mark.parametrize("kind", PLAYLISTS)
def test_a_playlist_or_text_named_mp4_is_a_message(served, videos: list[Path], kind: str, tmp_path: Path) -> None:
    (tmp_path / "sent.mp4").write_text(PLAYLISTS[kind].replace("SECRET", str(videos[0])))
    answer = ask(served.url + COMPLETIONS, request_of(data_url(tmp_path / "sent.mp4")))
    assert answer.status == 400
    said = answer.body["error"]["message"]
    assert "not a readable video" in said and "the video of the data: URL.mp4" in said
    assert str(served.admission.folder) not in said


def test_other_bad_input_is_a_message_and_the_server_stays(served, videos: list[Path], tmp_path: Path) -> None:
    (tmp_path / "long.mp4").write_bytes(bytes(310_000))
    frames = {"type": "video", "video": [picture_url(0)] * 2}
    for document, status, said in (
        (request_of("/etc/passwd"), 403, "is in no folder that this server reads"),
        (request_of(tmp_path / "long.mp4"), 403, "is in no folder that this server reads"),
        (request_of("file:///etc/passwd"), 403, "is not opened: give a path"),
        (request_of("http://127.0.0.1:1/a.mp4"), 403, "this server fetches no addresses (--allow-urls)"),
        (request_of(data_url(tmp_path / "long.mp4")), 413, "is larger than 0.3 MB"),
        (request_of(videos[0], None, vtg={"queries": ["red"] * 50}), 413, "50 queries at once: at most 5"),
        (request_of(videos[0], " . "), 400, "is empty"),
        (request_of(videos[0], None), 400, "there is no query"),
        (request_of(videos[0], "\ud800"), 400, "is no text"),
        (request_of(videos[0], "word " * 40_000), 400, "tokens"),
        (request_of(frames), 400, "give the times of its frames"),
        (request_of(frames | {"timestamps_s": [1, 0]}), 400, "must rise from 0 s on"),
        (request_of(frames | {"timestamps_s": [0, 1], "video": ["https://a/b.jpg"] * 2}), 400, "frame 0 is no data:"),
        (b"{", 400, "the request is no JSON"),
        (b"[" * 100_000, 400, "the request is no JSON"),
        (b"\xff\xfe", 400, "the request is no JSON"),
        (b"[]", 400, "the request is no JSON object"),
    ):
        answer = ask(served.url + COMPLETIONS, document)
        assert answer.status == status and said in answer.body["error"]["message"], (said, answer)
    assert ask(served.url + COMPLETIONS, request_of(videos[0])).status == 200
    assert not list(served.admission.folder.iterdir())


def connection_to(url: str) -> http.client.HTTPConnection:
    parts = urlsplit(url)
    return http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=60)


def test_a_body_that_is_too_large_is_not_read(served) -> None:
    announced = connection_to(served.url)
    announced.putrequest("POST", COMPLETIONS)
    announced.putheader("Content-Length", str(4 * 2**30))  # of which nothing is sent
    announced.endheaders()
    assert announced.getresponse().status == 413
    block = b"x" * 2**18
    unannounced = connection_to(served.url)
    unannounced.putrequest("POST", COMPLETIONS)
    unannounced.putheader("Transfer-Encoding", "chunked")
    unannounced.endheaders()
    for _ in range(7):  # the limit is 1.45 MB
        unannounced.send(b"%x\r\n%s\r\n" % (len(block), block))
    assert unannounced.getresponse().status == 413
    assert ask(f"{served.url}/health").status == 200


def test_pages_of_other_origins_and_other_names_are_refused(served, videos: list[Path]) -> None:
    own = {"Origin": served.url}
    assert ask(served.url + COMPLETIONS, request_of(videos[0]), headers=own).status == 200
    for headers in (
        {"Host": "rebound.example"},
        {"Host": "rebound.example:80"},
        {"Host": ""},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": f"{served.url}0"},
        {"Sec-Fetch-Site": "cross-site"},
    ):
        answer = ask(served.url + COMPLETIONS, request_of(videos[0]), headers=headers)
        assert answer.status == 403, headers
    assert ask(f"{served.url}/health", headers={"Host": f"localhost:{urlsplit(served.url).port}"}).status == 200


def test_a_key_is_asked_for(served, videos: list[Path]) -> None:
    endpoint = ChatEndpoint(served.worker, served.admission, name="tiny", room=16)
    with running(chat_app(endpoint, host="0.0.0.0", key="sésame")) as url:
        assert ask(f"{url}/health").status == 200
        assert ask(f"{url}/health", headers={"Host": "rebound.example"}).status == 403
        assert ask(f"{url}/health", headers={"Host": "192.168.1.5:80"}).status == 200
        for shown in ("", "Bearer other", "Bearer ", "Basic !", "sésame"):
            answer = ask(f"{url}/v1/models", headers={"Authorization": shown.encode().decode("latin-1")})
            assert answer.status == 401 and answer.body["error"]["code"] == "invalid_api_key"
        basic = base64.b64encode("me:sésame".encode()).decode()
        for shown in ("Bearer sésame", f"Basic {basic}"):
            headers = {"Authorization": shown.encode().decode("latin-1")}
            assert ask(f"{url}/v1/models", headers=headers).status == 200


def test_slow_answers_full_queues_and_clients_that_leave(
    videos: list[Path], demo_dir: Path, at_decoding: Callable[[Callable[[str], object]], None]
) -> None:
    go_on = threading.Event()
    at_decoding(lambda path: go_on.wait(60))
    limits = Limits(waiting=2, readers=1, timeout_s=1.0)
    with (
        ModelWorker(ask_settings("tiny", ["max_new_tokens=16"]), limits=limits, device="cpu") as worker,
        Admission(limits, allow_dirs=[demo_dir]) as admission,
        running(chat_app(ChatEndpoint(worker, admission, name="tiny", room=16), host="127.0.0.1", key=None)) as url,
    ):
        slow = ask(url + COMPLETIONS, request_of(videos[0]))
        assert slow.status == 504 and "not answered within 1 s" in slow.body["error"]["message"]
        wait_until(lambda: worker.waiting == 0)
        worker.limits = replace(limits, timeout_s=100.0)
        leaving = [connection_to(url) for _ in range(2)]
        for connection in leaving:
            connection.request("POST", COMPLETIONS, json.dumps(request_of(videos[1])))
        wait_until(lambda: worker.waiting == 2)
        full = ask(url + COMPLETIONS, request_of(videos[2]))
        assert full.status == 429 and full.headers["retry-after"] == "1"
        assert "2 requests wait already; try again" in full.body["error"]["message"]
        for connection in leaving:
            connection.close()
        wait_until(lambda: worker.waiting == 0)
        go_on.set()
        wait_until(lambda: ask(url + COMPLETIONS, request_of(videos[2])).status == 200)
        worker.close()
        assert ask(f"{url}/health").status == 503
        answer = ask(url + COMPLETIONS, request_of(videos[2]))
        assert answer.status == 503 and answer.body["error"]["type"] == "server_error"


def wait_until(is_so: Callable[[], bool], *, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)
