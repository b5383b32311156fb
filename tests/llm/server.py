"""An OpenAI-compatible endpoint in a process of its own, which misbehaves at most once for each prompt.

`python server.py --log FILE --seed 3 --faults 429,500 --share 0.5` prints its port. Each line of the log is
JSON: the digest of a request's body as `components.llm` makes it, and what became of it: "asked", then a
fault or "answered" once the last byte is handed over.
"""

import argparse
import hashlib
import json
import random
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))
from answers import answer_to  # type: ignore[import-not-found]  # started as a file, beside this one

FAULTS = ("429", "500", "hang", "broken", "refusal", "schema", "html", "long")


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    options: argparse.Namespace
    log_lock = threading.Lock()
    met: set[str] = set()  # noqa: RUF012 - of the one server of this process

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        body = json.dumps(request, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
        digest = hashlib.sha256(body.encode()).hexdigest()
        if self.options.key and self.headers.get("Authorization") != f"Bearer {self.options.key}":
            said = {"error": {"message": f"Incorrect API key provided: {self.headers['Authorization']}"}}
            self._note(digest, "401")
            self._send(401, json.dumps(said))
            return
        self._note(digest, "asked")
        time.sleep(self.options.delay)
        fault = self._fault(digest)
        if fault in ("429", "500"):
            self._note(digest, fault)
            self._send(int(fault), json.dumps({"error": {"message": f"planted {fault}"}}), retry_after="1")
        elif fault == "hang":
            self._note(digest, fault)
            time.sleep(self.options.hang)
            self.close_connection = True
        else:
            schema = request["response_format"]["json_schema"]["name"]
            user = request["messages"][-1]["content"]
            self._answer(digest, fault, request, json.dumps(answer_to(schema, user)))

    def _answer(self, digest: str, fault: str | None, request: dict[str, Any], content: str) -> None:
        message: dict[str, Any] = {"role": "assistant", "content": content, "refusal": None}
        if fault == "broken":
            message["content"] = content[: len(content) // 2]
        elif fault == "refusal":
            message.update(content=None, refusal="I would rather not.")
        elif fault == "schema":
            message["content"] = json.dumps({"other": 1})
        elif fault == "long":
            message["content"] = " " * self.options.long + content
        completion = {
            "id": "c",
            "object": "chat.completion",
            "created": 0,
            "model": request["model"],
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 100, "completion_tokens": 50, "total_tokens": 150},
        }
        self._send(200, "<html>busy</html>" if fault == "html" else json.dumps(completion))
        self._note(digest, fault or "answered")

    def _fault(self, digest: str) -> str | None:
        """A seeded draw for each prompt, used up by its first request (`--always`: by none)."""
        rng = random.Random(f"{self.options.seed}:{digest}")
        if rng.random() >= self.options.share or not self.options.faults:
            return None
        with self.log_lock:
            if digest in self.met and not self.options.always:
                return None
            self.met.add(digest)
        return str(rng.choice(self.options.faults))

    def _send(self, status: int, text: str, retry_after: str | None = None) -> None:
        data = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        if retry_after:
            self.send_header("Retry-After", retry_after)
        self.end_headers()
        try:
            self.wfile.write(data)
            self.wfile.flush()
        except OSError:  # the client was killed
            self.close_connection = True

    def _note(self, digest: str, what: str) -> None:
        with self.log_lock, self.options.log.open("a") as log:
            log.write(json.dumps({"digest": digest, "what": what, "at": time.monotonic()}) + "\n")

    def log_message(self, format: str, *args: Any) -> None:
        """Not on standard error."""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--log", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--faults", type=lambda text: text.split(",") if text else [], default=[])
    parser.add_argument("--share", type=float, default=1.0)
    parser.add_argument("--always", action="store_true")
    parser.add_argument("--hang", type=float, default=5.0)
    parser.add_argument("--delay", type=float, default=0.0)
    parser.add_argument("--long", type=int, default=0)
    parser.add_argument("--key", default="")
    Handler.options = parser.parse_args()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(server.server_address[1], flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
