"""Requests per second, latency and memory of ``mmgraph serve``.

A client in this process sends requests of one sample over connections that stay open to
a server in another process. Samples are those of the data set heart, as recorded, with
about half of their modalities removed from every second one::

    python benchmarks/serving.py
    python benchmarks/serving.py --model heart_model --seconds 60 --clients 32
"""

import argparse
import asyncio
import json
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

import mmgraph as mg
from mmgraph import serving

TARGET = 1000  # requests per second


def parse_arguments() -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--model", type=Path, help="folder or .onnx file (default: fitted on heart)"
    )
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--clients", type=int, default=16, help="open connections")
    parser.add_argument("--epochs", type=int, default=5, help="of the fitted model")
    return parser.parse_args()


def export_model(folder: Path, epochs: int) -> Path:
    """Fit the default classifier on heart, and export it."""
    train, _ = mg.load_dataset("heart").split(seed=0)
    path = folder / "heart.onnx"
    serving.export(mg.FusionClassifier(seed=0, epochs=epochs).fit(train), path)
    return path


def make_requests() -> list[bytes]:
    """Return one HTTP request per sample of the test part of heart."""
    _, test = mg.load_dataset("heart").split(seed=0)
    rng = np.random.default_rng(0)
    requests = []
    for i, sample in enumerate(test):
        content = {}
        for name, column in sample.columns.items():
            if column.present[0] and (i % 2 == 0 or rng.random() < 0.5):
                cells = zip(column.names, column.values[0].tolist(), strict=True)
                content[name] = {c: None if v != v else v for c, v in cells}
        body = json.dumps(content).encode()
        head = (
            "POST /predict HTTP/1.1\r\nHost: localhost\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        requests.append(head.encode() + body)
    return requests


@dataclass
class Result:
    """Seconds of all requests, and responses that are not 200."""

    seconds: list[float] = field(default_factory=list)
    failed: int = 0


async def send(
    port: int, requests: list[bytes], start: int, end: float, result: Result
) -> None:
    """Send requests over one connection, one after the other."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    number = start
    while time.perf_counter() < end:
        begin = time.perf_counter()
        writer.write(requests[number % len(requests)])
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
        assert length is not None
        await reader.readexactly(int(length[1]))
        result.seconds.append(time.perf_counter() - begin)
        result.failed += not head.startswith(b"HTTP/1.1 200")
        number += 1
    writer.close()


async def load(port: int, clients: int, seconds: float) -> Result:
    """Send requests over several connections for some seconds."""
    requests, result = make_requests(), Result()
    end = time.perf_counter() + seconds
    jobs = (send(port, requests, 7 * i, end, result) for i in range(clients))
    await asyncio.gather(*jobs)
    return result


def usage(pid: int) -> tuple[float, float]:
    """Return resident megabytes and processor seconds of a process."""
    status = Path(f"/proc/{pid}/status").read_text()
    resident = int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1e3
    ticks = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return resident, sum(map(int, ticks)) / 100


def measure(model: Path, arguments: argparse.Namespace) -> None:
    """Start the server, send requests, and print what was measured."""
    command = [sys.executable, "-m", "mmgraph", "serve", str(model), "--port", "0"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        port = int(re.search(r":(\d+), doc", server.stdout.readline())[1])
        asyncio.run(load(port, arguments.clients, 2))  # warm
        resident, processor = usage(server.pid)
        start, own = time.perf_counter(), time.process_time()
        result = asyncio.run(load(port, arguments.clients, arguments.seconds))
        elapsed, own = time.perf_counter() - start, time.process_time() - own
        after, used = usage(server.pid)
    finally:
        server.terminate()
        server.wait()
    times = np.array(result.seconds) * 1e3
    print(f"model              {model.name}, {arguments.clients} connections")
    print(f"requests           {len(times)} in {elapsed:.1f} s, {result.failed} failed")
    print(f"requests/s         {len(times) / elapsed:.0f} (target {TARGET})")
    print(f"ms per request     median {np.median(times):.1f}")
    print(f"                   95% {np.quantile(times, 0.95):.1f}")
    print(f"                   99% {np.quantile(times, 0.99):.1f}")
    per = 1e3 / len(times)
    print(f"processor ms each  server {(used - processor) * per:.2f}")
    print(f"                   client {own * per:.2f}")
    print(f"server memory MB   {resident:.0f} before, {after:.0f} after")


def main() -> None:
    """Measure a given model, or one that is fitted on heart."""
    arguments = parse_arguments()
    with tempfile.TemporaryDirectory() as folder:
        model = arguments.model or export_model(Path(folder), arguments.epochs)
        measure(model, arguments)


if __name__ == "__main__":
    main()
