"""A scaffold's way to its policy and tools, over the Unix socket it was given. Standard library only.

policy = Policy()
label = policy.choose("The sky is", [" blue", " green"])
answer({"label": label})
"""

import json
import os
import socket


class PolicyError(RuntimeError):
    """The proxy refused a request; `status` is its HTTP status."""

    def __init__(self, status, message):
        """Keep the status beside the words."""
        super().__init__(f"{status}: {message}")
        self.status = status


class Policy:
    """Requests to the model and the trusted tools of this rollout, one after the other on one connection."""

    def __init__(self):
        """Connect at the first request."""
        self._stream = None

    def choose(self, prompt, choices, temperature=None):
        """Draw one of the choices as the continuation of a prompt; returns it exactly as given."""
        wanted = {"choice": list(choices)}
        return self._completion(prompt, temperature=temperature, structured_outputs=wanted)["text"]

    def complete(self, prompt, *, temperature=None, max_tokens=None, stop=None):
        """Continue a prompt freely; returns the text."""
        return self._completion(prompt, temperature=temperature, max_tokens=max_tokens, stop=stop)["text"]

    def chat(self, messages, *, temperature=None, max_tokens=None, stop=None):
        """Answer a list of {"role", "content"}; returns the text."""
        body = {"messages": messages, "temperature": temperature, "max_tokens": max_tokens, "stop": stop}
        return self.request("/v1/chat/completions", body)["choices"][0]["message"]["content"]

    def tool(self, name, arguments):
        """Call a trusted tool; returns its result."""
        return self.request(f"/tools/{name}", {"arguments": arguments})["result"]

    def request(self, path, body):
        """Send one request; a field that is none is left out."""
        data = json.dumps({key: value for key, value in body.items() if value is not None}).encode()
        status, reply = self._exchange(path, data)
        if status != 200:
            raise PolicyError(status, reply.decode(errors="replace"))
        return json.loads(reply)

    def _completion(self, prompt, **body):
        return self.request("/v1/completions", {"prompt": prompt, **body})["choices"][0]

    def _exchange(self, path, data):
        """One HTTP exchange, by hand: importing http.client would take longer than most rollouts compute."""
        if self._stream is None:
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            connection.connect(os.environ["PAWL_SOCKET"])
            self._stream = connection.makefile("rwb")
        lines = [
            f"POST {path} HTTP/1.1",
            "Host: policy",
            f"Authorization: Bearer {os.environ['PAWL_TOKEN']}",
            "Content-Type: application/json",
            f"Content-Length: {len(data)}",
        ]
        self._stream.write("\r\n".join([*lines, "", ""]).encode() + data)
        self._stream.flush()
        status = int(self._stream.readline().split()[1])
        headers = {}
        while line := self._stream.readline().strip():
            name, _, value = line.partition(b":")
            headers[name.lower()] = value.strip()
        reply = self._stream.read(int(headers[b"content-length"]))
        if headers.get(b"connection") == b"close":
            self._stream = None
        return status, reply


def load_item():
    """The case to work on: {"id", "task", "payload", "seed"}."""
    with open("item.json", encoding="utf-8") as file:
        return json.load(file)


def answer(output):
    """Write the answer, a text or a JSON object; the last one written counts."""
    with open("output.json.part", "w", encoding="utf-8") as file:
        json.dump({"output": output}, file)
    os.replace("output.json.part", "output.json")
