"""What telemetry tells, where it goes, and what it costs where that is no good place."""

import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pawl.safety import Command, default_sandbox
from pawl.safety.sandbox.protocol import Use
from pawl.safety.telemetry import current_traceparent, here, measure, names, open_telemetry, span, within
from pawl.safety.telemetry.files import LineFile
from pawl.safety.telemetry.jobs import SPANS, JobSpan, JobSpans, collect_job, job_environment
from pawl.safety.telemetry.model_calls import Server, model_call, tool_call

from .telemetry_fixtures import collector, file_spans

TRACE = "0123456789abcdef" * 2
PROMPT, ANSWER, KEY = "CANARY-PROMPT", "CANARY-ANSWER", "CANARY-KEY"
REQUEST: dict[str, Any] = {
    "model": "m",
    "messages": [{"role": "user", "content": PROMPT}],
    "seed": 7,
    "max_tokens": 9,
    "temperature": 0.5,
    "top_p": 1.0,
}
REPLY: dict[str, Any] = {
    "id": "r-1",
    "model": "m-2",
    "choices": [{"finish_reason": "stop", "message": {"content": ANSWER}}],
    "usage": {"prompt_tokens": 11, "completion_tokens": 3},
}


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("OTEL_"):
            monkeypatch.delenv(name)


@pytest.fixture
def heard() -> Iterator[list[logging.LogRecord]]:
    """The warnings that reach whoever listens to all loggers, as a user's terminal does."""
    records: list[logging.LogRecord] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = records.append
    logging.getLogger().addHandler(handler)
    yield records
    logging.getLogger().removeHandler(handler)


def send_to(monkeypatch: pytest.MonkeyPatch, url: str, **variables: str) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


def call_once() -> None:
    with model_call(names.Operation.CHAT, REQUEST, Server(f"https://user:{KEY}@api.openai.com/v1?key={KEY}")) as call:
        call.answered(REPLY)
    with tool_call("verify", {"output": PROMPT}) as call:
        call.answered(ANSWER)


def test_a_model_call_is_told_by_the_names_of_the_pinned_conventions_and_without_its_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = "authorization=Bearer%20" + KEY
    with collector() as found:
        send_to(monkeypatch, found.url, OTEL_EXPORTER_OTLP_HEADERS=secret, OTEL_SERVICE_NAME="mine")
        with open_telemetry(tmp_path, campaign="c", trace_id=TRACE) as telemetry:
            assert telemetry is not None
            with within(telemetry.root):
                call_once()
    [chat] = [each for each in found.spans if each.client]
    assert chat.name == "chat m"
    assert chat.schema == "https://opentelemetry.io/schemas/1.41.0"
    assert chat.attributes == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "m",
        "gen_ai.request.seed": 7,
        "gen_ai.request.max_tokens": 9,
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.top_p": 1.0,
        "gen_ai.response.id": "r-1",
        "gen_ai.response.model": "m-2",
        "gen_ai.response.finish_reasons": ["stop"],
        "gen_ai.usage.input_tokens": 11,
        "gen_ai.usage.output_tokens": 3,
        "server.address": "api.openai.com",
        "server.port": 443,
    }
    [tool] = [each for each in found.spans if not each.client]
    assert (tool.name, tool.attributes) == (
        "execute_tool verify",
        {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "verify", "gen_ai.tool.type": "function"},
    )
    points = {name: list(data) for name, data in found.metrics.items()}
    tokens = {point.attributes[-1].value.string_value: point for point in points["gen_ai.client.token.usage"]}
    assert {name: point.sum for name, point in tokens.items()} == {"input": 11, "output": 3}
    assert list(tokens["input"].explicit_bounds) == [4.0**power for power in range(14)]
    [duration] = points["gen_ai.client.operation.duration"]
    assert list(duration.explicit_bounds)[:3] == [0.01, 0.02, 0.04]
    assert duration.explicit_bounds[-1] == 81.92
    everything = b"".join(found.bodies)
    assert b"mine" in everything
    for canary in (PROMPT, ANSWER, KEY):
        assert canary.encode() not in everything
    assert found.headers[0]["authorization"] == f"Bearer {KEY}"
    assert not (tmp_path / "telemetry").exists()


def test_messages_are_told_where_the_conventions_variable_asks_for_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "true")
    with open_telemetry(tmp_path, campaign="c", trace_id=TRACE) as telemetry, within(telemetry.root):
        call_once()
    chat, tool = file_spans(tmp_path / "telemetry")
    assert json.loads(chat.attributes["gen_ai.input.messages"]) == [
        {"role": "user", "parts": [{"type": "text", "content": PROMPT}]}
    ]
    assert json.loads(chat.attributes["gen_ai.output.messages"]) == [
        {"role": "assistant", "parts": [{"type": "text", "content": ANSWER}], "finish_reason": "stop"}
    ]
    assert json.loads(tool.attributes["gen_ai.tool.call.result"]) == ANSWER


def test_without_a_collector_every_span_is_a_line_of_a_file_that_only_its_user_can_read(tmp_path: Path) -> None:
    with open_telemetry(tmp_path, campaign="c/../1", trace_id=TRACE) as telemetry:
        with within(telemetry.round(3)), span("outer", {"n": 1}) as outer:
            outer.set("odd", float("nan"))
            outer.set("huge", 1 << 70)
            outer.set("broken", "\ud800")
            with span("inner"), pytest.raises(ValueError, match="CANARY"), span("fails"):
                raise ValueError(KEY)
        measure(names.ROUNDS, 1, {names.LEVER: "weights"}, within=telemetry.root)
        telemetry.ended("round 3", ("round", 3), 1.0, 2.0, {})
    spans = {each.name: each for each in file_spans(tmp_path / "telemetry")}
    assert set(spans) == {"outer", "inner", "fails", "round 3"}
    assert {each.trace for each in spans.values()} == {TRACE}
    assert spans["outer"].parent == spans["round 3"].id
    assert spans["inner"].parent == spans["outer"].id
    assert spans["fails"].failed
    assert spans["fails"].attributes == {"error.type": "ValueError"}
    assert spans["outer"].attributes == {"n": 1, "odd": "nan", "huge": str(1 << 70), "broken": "?"}
    files = sorted((tmp_path / "telemetry").iterdir())
    assert [each.name for each in files] == ["c_.._1.metrics.0001.jsonl", "c_.._1.traces.0001.jsonl"]
    assert {each.stat().st_mode & 0o777 for each in files} == {0o600}
    assert KEY not in files[1].read_text()
    assert '"pawl.rounds"' in files[0].read_text()


def test_files_are_bounded_whole_lines_after_a_crash_and_continued_by_the_next_run(tmp_path: Path) -> None:
    line = b"x" * 99 + b"\n"
    file = LineFile(tmp_path, "c.traces", file_bytes=1000, folder_bytes=3000)
    for _ in range(100):
        file.write([line])
    file.close()
    files = sorted(tmp_path.iterdir())
    assert sum(each.stat().st_size for each in files) <= 3000
    assert all(each.read_bytes().splitlines(keepends=True) == [line] * 10 for each in files)
    with files[-1].open("ab") as torn:
        torn.truncate(500)
        torn.write(b"torn")
    file = LineFile(tmp_path, "c.traces", file_bytes=1000, folder_bytes=3000)
    file.write([line])
    file.close()
    assert files[-1].read_bytes() == line * 6


@pytest.mark.parametrize("trouble", ["down", "slow", "refuses", "garbage"])
def test_a_collector_that_is_no_good_costs_a_bounded_queue_one_warning_and_a_bounded_end(
    trouble: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, heard: list[logging.LogRecord]
) -> None:
    replies: dict[str, dict[str, Any]] = {
        "down": {},
        "slow": {"delay": 60.0},
        "refuses": {"status": 503, "reply": b"no"},
        "garbage": {"status": 200, "reply": b"\xff<html>" * 100},
    }
    monkeypatch.setattr("pawl.safety.telemetry.telemetry.CLOSE_SECONDS", 0.5)
    with collector(**replies[trouble]) as found:
        send_to(monkeypatch, "http://127.0.0.1:9" if trouble == "down" else found.url, OTEL_BSP_SCHEDULE_DELAY="50")
        with open_telemetry(tmp_path, campaign="c", trace_id=TRACE) as telemetry:
            assert telemetry is not None
            started = time.process_time(), time.monotonic()
            with within(telemetry.root):
                for number in range(5000):
                    with span("work", {"n": number}):
                        pass
                    if number % 1000 == 0:
                        time.sleep(0.05)  # a campaign of seconds, in short
            worked = time.monotonic() - started[1]
            closing = time.monotonic()
        closed = time.monotonic() - closing
    assert worked < 5.0
    assert closed < 2.0
    warnings = [each.getMessage() for each in heard]
    if trouble == "garbage":  # it took them, as far as anybody can tell
        assert warnings == []
    else:
        [warning] = warnings
        assert "does not get to" in warning
        assert "the campaign goes on" in warning


def test_what_can_not_be_opened_is_told_once_and_nothing_is_traced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, heard: list[logging.LogRecord]
) -> None:
    (tmp_path / "telemetry").write_text("a file where the folder should be")
    with open_telemetry(tmp_path, campaign="c", trace_id=TRACE) as telemetry:
        assert telemetry is None
    assert len(heard) == 1
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    with open_telemetry(tmp_path / "b", campaign="c", trace_id=TRACE) as telemetry:
        assert telemetry is None
    assert not (tmp_path / "b").exists()
    monkeypatch.setenv("OTEL_SDK_DISABLED", "false")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    with open_telemetry(tmp_path / "b", campaign="c", trace_id=TRACE) as telemetry:
        assert telemetry is not None
    assert "http/protobuf" in heard[-1].getMessage()
    assert list((tmp_path / "b/telemetry").iterdir())


def test_where_telemetry_is_not_open_a_span_is_nothing_and_the_sdk_is_not_loaded() -> None:
    assert here() is None
    assert current_traceparent() is None
    assert job_environment("j") == {}
    with span("nothing") as current:
        current.set("a", 1)
        current.event("b", {})
    measure(names.COST, 1.0)
    program = (
        "import sys, pawl.cli.main, pawl.safety.telemetry.model_calls, pawl.serving.proxy, pawl.training.backends\n"
        "print([name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout == "[]\n"


def test_a_jobs_own_spans_hang_below_it_and_what_can_not_be_true_of_them_is_left_out(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    (run_dir / "job.json").write_text("{}")
    with open_telemetry(tmp_path, campaign="c", trace_id=TRACE) as telemetry, within(telemetry.round(2)):
        environment = job_environment("j")
        assert environment["TRACEPARENT"].startswith(f"00-{TRACE}-")
        spans = JobSpans(run_dir / SPANS, environment)
        with spans.span(JobSpan.TRAIN), spans.span(JobSpan.STEP, step=4, bad=float("inf")):
            pass
        now = time.time_ns()
        honest = {"trace": TRACE, "id": "a" * 16, "parent": "b" * 16, "name": "load", "start": now, "end": now}
        lies: list[dict[str, Any]] = [
            {"trace": "f" * 32},
            {"name": "promotion"},
            {"id": "../../etc"},
            {"start": 1},
            {"end": now + 10**12},
            {"end": now - 10**9},
            {"start": 10**400},
            {"numbers": {"x": 10**400}},
            {"numbers": {"x": "text"}},
            {"numbers": {"Not.A.Name": 1}},
            {"numbers": {f"n{'a' * i}": 1 for i in range(20)}},
            {"message": PROMPT},
        ]
        ring = [honest | {"id": "c" * 16, "parent": "d" * 16}, honest | {"id": "d" * 16, "parent": "c" * 16}]
        with (run_dir / SPANS).open("a") as file:
            for each in [*(honest | lie for lie in lies), *ring]:
                file.write(json.dumps(each) + "\n")
            file.write("[" * 100_000 + "\n\xff not JSON\n" + '{"trace":')
        assert collect_job(run_dir, job="j", parent=("round", 2), attributes={}) == 4
        (run_dir / SPANS).unlink()
        (run_dir / SPANS).symlink_to("/etc/passwd")
        assert collect_job(run_dir, job="k", parent=("round", 2), attributes={}, failed="failed") == 0
    told = file_spans(tmp_path / "telemetry")
    job, step, train, first, second, failed = told
    assert [each.name for each in told] == [
        "training job",
        "optimiser step",
        "train",
        "load",
        "load",
        "training job",
    ]
    assert step.parent == train.id
    assert train.parent == job.id
    assert (first.parent, second.parent) == (second.id, job.id)
    assert step.attributes == {"pawl.job": "j", "pawl.untrusted": True, "pawl.training.step": 4}
    assert failed.failed
    assert not {"a" * 16, "c" * 16, "d" * 16} & {each.id for each in told}
    assert PROMPT not in "".join(each.read_text() for each in (tmp_path / "telemetry").iterdir())


async def test_no_variable_of_telemetry_reaches_a_sandbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LANGSMITH_API_KEY", "LANGSMITH_ENDPOINT", "LANGSMITH_TRACING", "OTEL_EXPORTER_OTLP_HEADERS"):
        monkeypatch.setenv(name, KEY)
    work = tmp_path / "work"
    work.mkdir()
    command = Command(argv=("/usr/bin/env",), work=work.resolve(), use=Use.TRUSTED)
    result = await default_sandbox().run(command)
    assert KEY.encode() not in result.stdout
    assert b"HOME=" in result.stdout
