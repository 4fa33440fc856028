"""The HTTP server: predictions of a real client, and requests that are refused."""

import asyncio
import http.client
import json
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from mmgraph import FusionClassifier, FusionMatcher, FusionRegressor, MultimodalData
from mmgraph.cli import app
from mmgraph.errors import ConfigError, DataError
from mmgraph.serving.app import BODIES, BodyReader, RefusedError
from mmgraph.serving.batching import MicroBatcher, OverloadError
from mmgraph.serving.requests import TableForm, VectorForm
from mmgraph.serving.served import PredictionService
from mmgraph.workflows.serve import ServeRequest, serve_model

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")
QUICK = {"members": 1, "epochs": 1, "experts": ("linear",), "seed": 0}


def make_data(num=40):
    """A table with a category, vectors, texts, and sequences with times."""
    rng = np.random.default_rng(0)
    y = np.arange(num) % 2
    wbc = y + rng.normal(size=num)
    labs = pd.DataFrame({"wbc": wbc, "sex": rng.choice(list("fm"), num)})
    labs.loc[::5, "wbc"] = np.nan
    x = (y[:, None] + rng.normal(size=(num, 3))).astype(np.float32)
    x[::4] = np.nan
    notes = np.where(y == 1, "short of breath", "no fever").astype(object)
    notes[::3] = None
    ecg = [rng.normal(size=(2 + i % 4, 2)) if i % 6 else None for i in range(num)]
    times = [None if e is None else np.arange(len(e)) * 0.5 for e in ecg]
    return MultimodalData.from_arrays(
        {"labs": labs, "x": x, "note": notes, "ecg": ecg},
        times={"ecg": times},
        y=np.array(["no", "yes"])[y],
    )


def as_request(data, i):
    """Return a sample as the content of a request, without its missing modalities."""
    content = {}
    rows = {n: np.flatnonzero(c.sample == i) for n, c in data.columns.items()}
    cells = {n: c.values[rows[n]].tolist() for n, c in data.columns.items()}
    if cells["labs"]:
        wbc, sex = cells["labs"][0]
        known = data.columns["labs"].categories[1]
        wbc = None if np.isnan(wbc) else wbc
        content["labs"] = {"wbc": wbc, "sex": known[int(sex)]}
    if cells["ecg"]:
        time = data.columns["ecg"].time[rows["ecg"]].tolist()
        content["ecg"] = {"values": cells["ecg"], "time": time}
    return content | {n: cells[n][0] for n in ("x", "note") if cells[n]}


@pytest.fixture(scope="module")
def data():
    return make_data()


@pytest.fixture(scope="module")
def classifier(data):
    return FusionClassifier(**QUICK).fit(data)


@pytest.fixture(scope="module")
def folder(classifier, tmp_path_factory):
    path = tmp_path_factory.mktemp("served") / "model"
    classifier.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def port(folder):
    """A server in a thread of this process, on a free port."""
    addresses, ready = [], threading.Event()

    def started(address):
        addresses.append(address)
        ready.set()

    request = ServeRequest(folder, port=0, max_body=0.1)
    threading.Thread(target=serve_model, args=(request, started), daemon=True).start()
    assert ready.wait(60)
    return int(addresses[0].rpartition(":")[2])


def send(port, path, content=None, *, method=None, headers=None):
    """Return status and content of a response."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    body = content if isinstance(content, bytes | None) else json.dumps(content)
    method = method or ("GET" if content is None else "POST")
    connection.request(method, path, body, headers or {})
    response = connection.getresponse()
    text = response.read().decode()
    connection.close()
    is_json = response.headers["Content-Type"] == "application/json"
    return response.status, json.loads(text) if is_json else text


def test_predictions_equal_those_of_the_estimator(port, data, classifier):
    requests = [as_request(data, i) for i in range(len(data))]
    status, batch = send(port, "/predict_batch", requests)
    assert status == 200
    proba = classifier.predict_proba(data)
    served = [[each["probability"][c] for c in ("no", "yes")] for each in batch]
    np.testing.assert_allclose(served, proba, atol=1e-6)
    assert [each["prediction"] for each in batch] == classifier.predict(data).tolist()
    for i in (0, 7):
        status, single = send(port, "/predict", requests[i])
        assert status == 200
        assert single["probability"]["yes"] == pytest.approx(proba[i, 1], abs=1e-6)


def test_missing_is_null_or_left_out(port, classifier):
    content = {"labs": {"sex": "f"}, "x": None}
    same = {"labs": {"sex": "f", "wbc": None}, "note": None}
    (_, first), (_, second) = (send(port, "/predict", c) for c in (content, same))
    assert first == second
    status, nothing = send(port, "/predict", {})
    assert status == 200
    prior = nothing["probability"]
    assert prior != first["probability"]
    assert sum(prior.values()) == pytest.approx(1)
    assert send(port, "/predict_batch", []) == (200, [])


@pytest.mark.parametrize(
    ("content", "status", "text"),
    [
        (b"{", 400, "body must be JSON"),
        (b"\xff", 400, "body must be JSON"),
        (b"[" * 90_000, 400, "nested too deeply"),
        (b'{"x": [1, 2, NaN]}', 400, "NaN, which JSON does not have"),
        (b'{"x": [1, 2, Infinity]}', 400, "Infinity, which JSON does not have"),
        ([], 422, r"body must be an object of modalities, got \[\]"),
        (
            {"lab": {}},
            422,
            r"no other modalities than labs, x, .*'lab'. Did you .*'labs'",
        ),
        ({"labs": {"wcb": 1}}, 422, r"labs must have no other columns than wbc, sex"),
        ({"labs": {"wbc": "8"}}, 422, "labs.wbc must be a number .*, got '8'"),
        ({"labs": {"wbc": True}}, 422, "labs.wbc must be a number .*, got True"),
        (b'{"labs": {"wbc": 1e999}}', 422, "labs.wbc must be a number .*, got inf"),
        ({"labs": {"sex": "x"}}, 422, "labs.sex must be 'f', 'm' or null, got 'x'"),
        ({"labs": {"sex": []}}, 422, "labs.sex must be 'f', 'm' or null, got"),
        ({"labs": [1, 2]}, 422, "labs must be an object of columns"),
        ({"x": [1, 2]}, 422, "x must be a list of 3 numbers or nulls, got 2 items"),
        ({"x": [1, 2, "3"]}, 422, r"x\[2\] must be a number .*, got '3'"),
        ({"x": [1, 2, 1e300]}, 422, "x must be a number in the range of float32"),
        ({"x": [1, 2, 10**400]}, 422, "x must be a number in the range of float32"),
        ({"note": 3}, 422, "note must be a string, got 3"),
        ({"ecg": [[1, 2]]}, 422, "ecg must be an object of values and time"),
        ({"ecg": {"values": 1, "time": []}}, 422, "ecg.values must be a list of rows"),
        (
            {"ecg": {"values": [[1, 2]], "time": []}},
            422,
            "a list of 1 numbers, one for",
        ),
        ({"ecg": {"values": [[1, 2]], "time": ["x"]}}, 422, "must be in seconds, got"),
    ],
)
def test_bad_requests_get_one_sentence(port, content, status, text):
    got, response = send(port, "/predict", content)
    assert got == status
    assert list(response) == ["detail"]
    assert re.search(text, response["detail"])
    assert "\n" not in response["detail"]


def test_a_bad_sample_of_a_batch_is_named(port):
    assert send(port, "/predict_batch", {})[0] == 422
    status, response = send(port, "/predict_batch", [{}, {"x": [1]}])
    assert status == 422
    assert response["detail"].startswith("body[1].x must be")
    status, response = send(port, "/predict_batch", [{}] * 1001)
    assert status == 422
    assert "at most 1000 samples, got 1001" in response["detail"]


def test_large_bodies_are_refused_before_they_are_read(port):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.putrequest("POST", "/predict")
    connection.putheader("Content-Length", str(100_000_000))
    connection.endheaders()  # no byte of the body is sent
    response = connection.getresponse()
    assert response.status == 413
    detail = json.loads(response.read())["detail"]
    assert detail == "body must have at most 100000 bytes, got 100000000 or more."
    connection.close()


def test_large_bodies_without_a_length_are_refused(port):
    parts = (b" " * 50_000 for _ in range(4))
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request(
        "POST",
        "/predict",
        parts,
        encode_chunked=True,
        headers={"Transfer-Encoding": "chunked"},
    )
    assert connection.getresponse().status == 413
    connection.close()


def test_state_schema_and_pages(port, classifier):
    status, health = send(port, "/health")
    assert (status, health["status"], health["model"]) == (200, "ok", "model")
    _, schema = send(port, "/schema")
    assert (schema["task"], schema["classes"]) == ("classification", ["no", "yes"])
    assert schema["max_body"] == 100_000
    columns = schema["sample"]["properties"]["labs"]["anyOf"][0]["properties"]
    assert columns == {
        "wbc": {"type": ["number", "null"]},
        "sex": {"enum": ["f", "m", None]},
    }
    assert send(port, "/predict", schema["example"])[0] == 200
    _, interface = send(port, "/openapi.json")
    assert {"/predict", "/predict_batch", "/health", "/schema"} == set(
        interface["paths"]
    )
    operation = interface["paths"]["/predict"]["post"]
    assert set(operation["responses"]) == {"200", "400", "413", "422", "503"}
    assert send(port, "/nothing")[0] == 404
    assert send(port, "/predict")[0] == 405


def test_the_page_needs_no_other_host(port):
    status, page = send(port, "/docs")
    assert status == 200
    assert "POST /predict" in page
    assert "short of breath" not in page  # values of training samples
    assert not re.search(r"(src|href)=|https?://|@import", page)


def test_requests_that_wait_are_predicted_together():
    started, sizes = threading.Event(), []

    def predict(samples):
        sizes.append(len(samples))
        started.wait(10)
        if "bad" in samples:
            raise DataError("no")
        return [s.upper() for s in samples]

    async def main():
        batcher = MicroBatcher(predict, max_samples=4, max_waiting=4)
        jobs = [
            asyncio.create_task(batcher.submit([s])) for s in ("a", "b", "bad", "c")
        ]
        await asyncio.sleep(0.05)
        parts = (["d"], ["e", "f"], ["g"])
        more = [asyncio.create_task(batcher.submit(part)) for part in parts]
        await asyncio.sleep(0)
        try:
            with pytest.raises(OverloadError):
                await batcher.submit(["h"])
        finally:
            started.set()
        results = await asyncio.gather(*jobs, return_exceptions=True)
        return results, await asyncio.gather(*more)

    results, more = asyncio.run(main())
    assert results[:2] == [["A"], ["B"]]
    assert isinstance(results[2], DataError)
    assert results[3] == ["C"]
    assert more == [["D"], ["E", "F"], ["G"]]
    assert sizes == [4, 1, 1, 1, 1, 4]


def test_bodies_are_limited_together():
    class Request:
        def __init__(self):
            self.headers = {"content-length": "10"}

        async def stream(self):
            yield b"0123456789"

    async def main():
        reader = BodyReader(10)
        assert await reader.read(Request()) == b"0123456789"
        assert reader.num_bytes == 0
        reader.num_bytes = 10 * BODIES
        with pytest.raises(RefusedError, match="Too many large requests"):
            await reader.read(Request())

    asyncio.run(main())


def test_categories_that_are_numbers_match_as_in_the_library():
    form = TableForm(("ward=1", "ward=2", "age"), {"ward": ("1", "2")})
    for cell in (2, 2.0, "2", "2.0"):
        np.testing.assert_array_equal(form.read("t", {"ward": cell}), [0, 1, np.nan])
    np.testing.assert_array_equal(form.read("t", {"ward": None}), [np.nan] * 3)
    np.testing.assert_array_equal(VectorForm(2).read("x", [1, None]), [1, np.nan])


def test_regressors_and_conformal_sets(data):
    y = np.arange(len(data)) % 7 + 0.5
    numbers = data.select(["x"]).replace(y=y)
    regressor = FusionRegressor(**QUICK).fit(numbers[:20])
    service = PredictionService(regressor)
    (value,) = service.predict([{"x": np.zeros(3)}])
    assert list(value) == ["prediction"]
    regressor.conformal(numbers[20:], min_samples=10)
    (value,) = service.predict([{"x": np.zeros(3)}])
    low, high = value["interval"]
    assert low < value["prediction"] < high
    classifier = FusionClassifier(**QUICK).fit(data.select(["x"])[:20])
    classifier.conformal(data.select(["x"])[20:], min_samples=10)
    (value,) = PredictionService(classifier).predict([{}])
    assert set(value["prediction_set"]) <= {"no", "yes"}


def test_models_and_addresses_that_cannot_be_served(folder, port):
    with pytest.raises(ConfigError, match="model must be a classifier or regressor"):
        PredictionService(FusionMatcher(left=["a"], right=["b"]))
    with pytest.raises(ConfigError, match=f"port must be free on the host, got {port}"):
        serve_model(ServeRequest(folder, port=port), print)
    result = CliRunner().invoke(app, ["serve", "nothing", "--port", "0"])
    assert result.exit_code == 2
    assert result.stderr == "Error: Model folder must exist, got 'nothing'.\n"


@pytest.mark.slow
def test_the_command_serves_an_exported_model_in_flat_memory(tmp_path):
    x = np.random.default_rng(0).normal(size=(30, 3)).astype(np.float32)
    clf = FusionClassifier(**QUICK).fit(
        x_data := MultimodalData.from_arrays({"x": x}, y=np.arange(30) % 2)
    )
    from mmgraph import serving

    path = tmp_path / "model.onnx"
    serving.export(clf, path)
    command = [sys.executable, "-m", "mmgraph", "serve", str(path), "--port", "0"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        port = int(re.search(r":(\d+), ", server.stdout.readline())[1])
        content = {"x": x[0].tolist()}
        _, response = send(port, "/predict", content)
        expected = clf.predict_proba(x_data[:1])[0, 1]
        assert response["probability"]["1"] == pytest.approx(expected, abs=1e-5)
        _load(port, content, 100)
        before = _resident(server.pid)
        _load(port, content, 300)
        zeros = bytes(100_000_000)
        assert send(port, "/predict", zeros)[0] == 413
        assert _resident(server.pid) < before + 15e3
        server.send_signal(signal.SIGINT)
        assert server.wait(20) == 0
    finally:
        server.kill()
        server.wait()
        server.stdout.close()


def _load(port, content, count):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    for _ in range(count):
        connection.request("POST", "/predict", json.dumps(content))
        response = connection.getresponse()
        assert response.status == 200
        response.read()
    connection.close()


def _resident(pid):
    text = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", text)[1])
