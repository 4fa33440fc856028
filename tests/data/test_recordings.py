"""Folders of recordings: layouts, clocks, labels, formats and damaged files."""

import numpy as np
import pytest

from mmgraph import ConfigError, DataError, DataWarning, MultimodalData, limits

pd = pytest.importorskip("pandas", reason="pandas is not installed")
RATES = {"acc": 50, "hr": 1}


def signal(sensor: str, person: int, seconds: int = 4, clock: str = "time"):
    """Return a table of a sensor; "none" has no times."""
    t = np.arange(seconds * RATES[sensor]) / RATES[sensor]
    names = ["x", "y", "z"] if sensor == "acc" else ["bpm"]
    values = person + np.arange(len(t) * len(names)).reshape(len(t), -1) / 8
    frame = pd.DataFrame(values, columns=names)
    if clock == "dates":
        start = pd.Timestamp("2026-03-01")
        frame.insert(0, "clock", start + pd.to_timedelta(t, unit="s"))
    elif "ms" in clock:
        frame.insert(0, clock, (1_767_225_600_000 + 1000 * t).astype(int))
    elif clock != "none":
        frame.insert(0, clock, t)
    return frame


def write(folder, layout: str, clock: str = "time", sensors=tuple(RATES)):
    """Write two recordings, each with a file per sensor, and their labels."""
    for person in (1, 2):
        for sensor in sensors:
            path = folder / f"{layout.format(r=f'p{person}', s=sensor)}.csv"
            path.parent.mkdir(exist_ok=True, parents=True)
            signal(sensor, person, clock=clock).to_csv(path, index=False)
    labels = {"recording": ["p2", "p1"], "activity": ["run", "walk"], "who": [20, 10]}
    pd.DataFrame(labels).to_csv(folder / "labels.csv", index=False)
    return folder / "labels.csv"


@pytest.mark.parametrize(
    "layout", ["{r}/{s}", "{s}/{r}", "{r}_{s}", "{r}-{s}", "{r}.{s}", "day 1/{s}/{r}"]
)
def test_files_are_assigned_to_recordings_and_sensors(tmp_path, layout):
    labels = write(tmp_path, layout)
    data = MultimodalData.from_recordings(tmp_path, labels, y="activity", groups="who")
    assert data.ids.tolist() == ["p2", "p1"]  # the order of the table
    assert data.y.tolist() == ["run", "walk"]
    assert data.groups.tolist() == [20, 10]
    acc, hr = data.columns.values()
    assert acc.names == ("x", "y", "z")
    assert hr.names == ("bpm",)
    assert acc.lengths.tolist() == [200, 200]
    assert hr.lengths.tolist() == [4, 4]
    np.testing.assert_allclose(acc.values[0], [2, 2.125, 2.25])
    np.testing.assert_allclose(acc.time[:3], [0, 0.02, 0.04])
    name = "day 1." if "day" in layout else ""
    assert data.modalities == (f"{name}acc", f"{name}hr")


@pytest.mark.parametrize("clock", ["dates", "timestamp_ms", "Time (ms)"])
def test_times_are_never_channels(tmp_path, clock):
    data = MultimodalData.from_recordings(
        tmp_path, write(tmp_path, "{r}_{s}", clock), y="activity"
    )
    assert data.columns["acc"].names == ("x", "y", "z")
    np.testing.assert_allclose(np.diff(data.columns["acc"].time[:200]), 0.02, atol=1e-6)


def test_an_index_that_numbers_the_rows_is_no_channel(tmp_path):
    frame = signal("hr", 1)
    frame.to_csv(tmp_path / "p1.csv")
    data = MultimodalData.from_recordings(tmp_path, modalities={"hr": ["bpm"]})
    assert data.columns["hr"].names == ("bpm",)
    assert MultimodalData.from_recordings(tmp_path).modalities == ("bpm",)


def test_without_labels_folders_or_files_are_recordings(tmp_path):
    write(tmp_path / "a", "{r}/{s}")
    (tmp_path / "a" / "labels.csv").unlink()
    data = MultimodalData.from_recordings(tmp_path / "a")
    assert data.ids.tolist() == ["p1", "p2"]
    assert data.y is None
    assert data.modalities == ("acc", "hr")


def test_rates_are_for_tables_without_times(tmp_path):
    labels = write(tmp_path, "{r}/{s}", "none")
    data = MultimodalData.from_recordings(tmp_path, labels, y="activity", rates=RATES)
    np.testing.assert_allclose(data.columns["acc"].time[:3], [0, 0.02, 0.04])
    message = (
        "'hr' must have a column of times or a rate, got neither in recording 'p2'"
    )
    with pytest.raises(DataError, match=message):
        MultimodalData.from_recordings(tmp_path, labels, y=None, rates={"acc": 50})
    for rate in (0, -1, "50", True, float("nan")):
        with pytest.raises(DataError, match="rates must be above 0 Hz"):
            MultimodalData.from_recordings(tmp_path, labels, y=None, rates=rate)


def test_a_table_of_several_sensors_keeps_their_rates(tmp_path):
    acc, hr = signal("acc", 1), signal("hr", 1)
    wide = acc.add_prefix("acc_").rename(columns={"acc_time": "time"})
    wide.merge(hr, how="left", on="time").to_csv(tmp_path / "p1.csv", index=False)
    data = MultimodalData.from_recordings(tmp_path)
    assert data.modalities == ("acc", "bpm")
    assert data.columns["bpm"].lengths.tolist() == [4]
    assert data.columns["acc"].names == ("acc_x", "acc_y", "acc_z")
    chosen = {"all": ["acc_z", "bpm"]}
    both = MultimodalData.from_recordings(tmp_path, modalities=chosen)
    assert both.columns["all"].names == ("acc_z", "bpm")
    with pytest.raises(DataError, match="'no' must have channels in a recording"):
        MultimodalData.from_recordings(tmp_path, modalities={"no": ["a"]})
    with pytest.raises(DataError, match="where 'bpm' is and 'a' is not"):
        MultimodalData.from_recordings(tmp_path, modalities={"hr": ["a", "bpm"]})


def test_labels_of_rows_are_no_channel(tmp_path):
    frame = signal("hr", 1, 6)
    frame["activity"] = ["walk"] * 3 + ["run"] * 3
    frame.to_parquet(tmp_path / "p1.parquet")
    data = MultimodalData.from_recordings(tmp_path, y="activity")
    assert data.modalities == ("bpm", "activity")
    windows = data.windows(3, label="activity")
    assert windows.modalities == ("bpm",)
    assert windows.y.tolist() == ["walk", "run"]
    with pytest.raises(DataError, match="y must be a column of the labels or of the"):
        MultimodalData.from_recordings(tmp_path, y="posture")
    with pytest.raises(DataError, match="must hold numbers, got strings"):
        MultimodalData.from_recordings(tmp_path)


def test_labels_of_intervals_keep_numbers_and_gaps(tmp_path):
    write(tmp_path, "{r}/{s}").unlink()
    rows = [("p1", 0, 2, 7), ("p1", 3, 4, 8), ("p2", 0, 4, 7)]
    labels = pd.DataFrame(rows, columns=["recording", "start", "end", "stage"])
    labels["who"] = ["a", "a", "b"]
    data = MultimodalData.from_recordings(tmp_path, labels, y="stage", groups="who")
    windows = data.windows(1, label="stage")
    assert windows.ids.tolist() == [
        *("p1@0", "p1@1", "p1@3"),  # there is no label from 2 to 3 s
        *("p2@0", "p2@1", "p2@2", "p2@3"),
    ]
    assert windows.y.tolist() == [7, 7, 8, 7, 7, 7, 7]
    assert windows.groups.tolist() == ["a"] * 3 + ["b"] * 4
    stored = tmp_path / "stored.parquet"
    data.to_parquet(stored)
    assert MultimodalData.from_parquet(stored).windows(1, label="stage").equals(windows)
    stored.unlink()
    unlabeled = MultimodalData.from_recordings(tmp_path, labels, y=None, groups="who")
    assert unlabeled.modalities == ("acc", "hr")
    assert unlabeled.groups.tolist() == ["a", "b"]
    with pytest.raises(DataError, match=r"labels of intervals, got 'y'\. Columns: rec"):
        MultimodalData.from_recordings(tmp_path, labels)
    with pytest.raises(DataError, match="before the next one, got 0 to 4 s"):
        MultimodalData.from_recordings(
            tmp_path, labels.assign(end=[4, 4, 4]), y="stage"
        )
    with pytest.raises(DataError, match="one entry of groups per recording"):
        MultimodalData.from_recordings(
            tmp_path, labels.assign(who=list("abc")), y="stage", groups="who"
        )


def test_unmatched_names_are_left_out_with_a_warning(tmp_path):
    write(tmp_path, "{r}/{s}")
    labels = pd.DataFrame({"file": ["p1.csv", "p9"], "y": [0, 1]})
    with pytest.warns(DataWarning) as caught:
        data = MultimodalData.from_recordings(tmp_path, labels)
    assert data.ids.tolist() == ["p1"]
    assert [str(each.message).partition(":")[0] for each in caught] == [
        "1 recordings of the table of labels have no files and are left out",
        # labels.csv, p2/acc and p2/hr
        "3 files belong to no recording of the table of labels and are left out",
    ]


def test_errors_of_folders_and_tables(tmp_path):
    read = MultimodalData.from_recordings
    with pytest.raises(DataError, match="Folder must exist"):
        read(tmp_path / "no")
    with pytest.raises(DataError, match=r"must hold recordings .* got none"):
        read(tmp_path)
    labels = write(tmp_path, "{r}/{s}")
    with pytest.raises(DataError, match="not in labels"):
        read(tmp_path, pd.DataFrame({"recording": ["q"]}))
    with pytest.raises(DataError, match="must have a column of recordings, got person"):
        read(tmp_path, pd.DataFrame({"person": ["q"]}))
    with pytest.raises(DataError, match=r"one row per recording.* got 2 rows of 'p1'"):
        read(tmp_path, pd.DataFrame({"id": ["p1", "p1"]}))
    with pytest.raises(DataError, match="'who2' must exist once"):
        read(tmp_path, labels, groups="who2")
    (tmp_path / "p1_acc.csv").write_text("time,x\n0,1\n")
    with pytest.raises(DataError, match="must hold one file of 'acc' per recording"):
        read(tmp_path, labels, y="activity")
    (tmp_path / "p1_acc.csv").unlink()
    (tmp_path / "p1" / "acc.csv").write_text("time,date,x\n0,2026-01-01,1\n")
    with pytest.raises(DataError, match="one column of times, got time, date"):
        read(tmp_path, labels, y="activity")
    (tmp_path / "p1" / "acc.csv").write_text("time,x,x\n0,2,1\n")
    with pytest.raises(DataError, match="columns of different names, got 'x' twice"):
        read(tmp_path, labels, y="activity")


def test_channels_that_a_recording_lacks_are_missing_cells(tmp_path):
    labels = write(tmp_path, "{r}/{s}")
    signal("acc", 1).drop(columns="y").to_csv(tmp_path / "p1" / "acc.csv", index=False)
    with pytest.warns(
        DataWarning, match="'acc' has channels that some recordings lack"
    ):
        data = MultimodalData.from_recordings(tmp_path, labels, y="activity")
    lost = np.isnan(data.columns["acc"].values)
    assert lost[:200].sum() == 0
    assert lost[200:].sum(axis=0).tolist() == [0, 200, 0]


# EDF and WFDB


@pytest.fixture
def edfio():
    return pytest.importorskip("edfio", reason="edfio is not installed")


def edf(edfio, path, unit: str = "uV", start: str = "22:00:00"):
    import datetime

    t = np.arange(1000) / 100
    signals = [
        edfio.EdfSignal(np.sin(t), 100, label="EEG Fpz-Cz", physical_dimension=unit),
        edfio.EdfSignal(np.cos(t), 100, label="EEG Pz-Oz", physical_dimension=unit),
        edfio.EdfSignal(np.arange(10.0), 1, label="Temp", physical_dimension="degC"),
    ]
    file = edfio.Edf(signals, starttime=datetime.time.fromisoformat(start))
    file.write(path)
    return t


def test_signals_of_edf_have_their_units_and_rates(tmp_path, edfio):
    t = edf(edfio, tmp_path / "night.edf")
    data = MultimodalData.from_recordings(tmp_path)
    assert data.modalities == ("EEG", "Temp")
    eeg, temperature = data.columns.values()
    assert eeg.names == ("EEG Fpz-Cz", "EEG Pz-Oz")
    np.testing.assert_allclose(eeg.values[:, 0], np.sin(t), atol=1e-4)
    np.testing.assert_allclose(eeg.time, t)
    np.testing.assert_allclose(temperature.values[:, 0], np.arange(10), atol=1e-3)
    np.testing.assert_allclose(temperature.time, np.arange(10))


def test_units_must_agree_between_recordings(tmp_path, edfio):
    edf(edfio, tmp_path / "a.edf")
    edf(edfio, tmp_path / "b.edf", "mV")
    with pytest.raises(DataError, match="one unit, got uV in 'a' and mV in 'b'"):
        MultimodalData.from_recordings(tmp_path)


def test_files_of_a_recording_share_the_clock_of_the_earliest(tmp_path, edfio):
    (tmp_path / "n").mkdir()
    edf(edfio, tmp_path / "n" / "a.edf")
    edf(edfio, tmp_path / "n" / "b.edf", start="22:00:30")
    names = {"a": ["Temp"], "b": ["Temp"]}
    data = MultimodalData.from_recordings(tmp_path, modalities=names)
    assert [column.time[0] for column in data.columns.values()] == [0, 30]
    with pytest.raises(DataError, match="must have one clock"):
        MultimodalData.from_recordings(tmp_path)


def test_damaged_files_are_errors(tmp_path, edfio):
    edf(edfio, tmp_path / "a.edf")
    whole = (tmp_path / "a.edf").read_bytes()
    for content in (b"", whole[:200], whole[:700], b"\xff" * 3000, b"0" * 3000):
        (tmp_path / "a.edf").write_bytes(content)
        with pytest.raises(DataError, match=r"a\.edf"):
            MultimodalData.from_recordings(tmp_path)
    (tmp_path / "a.edf").write_bytes(whole[:-1000])
    with pytest.warns(DataWarning, match="Incomplete data record"):
        MultimodalData.from_recordings(tmp_path)
    (tmp_path / "a.edf").write_bytes(whole)
    with limits.override(table_bytes=1000), pytest.raises(DataError, match="at most"):
        MultimodalData.from_recordings(tmp_path)


@pytest.fixture
def wfdb():
    return pytest.importorskip("wfdb", reason="wfdb is not installed")


def write_wfdb(folder):
    t = np.arange(500) / 250
    x = np.stack([np.sin(t), np.cos(t)], axis=1)
    np.round(x * 10000).astype("<i2").tofile(folder / "ecg1.dat")
    lines = [f"ecg1.dat 16 10000/mV 16 0 0 0 0 {name}" for name in ("I", "II")]
    (folder / "ecg1.hea").write_text("\n".join(["ecg1 2 250 500", *lines, ""]))
    return t, x


@pytest.mark.usefixtures("wfdb")
def test_signals_of_wfdb_are_in_physical_units(tmp_path):
    t, x = write_wfdb(tmp_path)
    labels = pd.DataFrame({"record": ["ecg1"], "y": [1]})
    data = MultimodalData.from_recordings(
        tmp_path, labels, modalities={"ecg": ["I", "II"]}
    )
    np.testing.assert_allclose(data.columns["ecg"].values, x, atol=1e-4)
    np.testing.assert_allclose(data.columns["ecg"].time, t)


@pytest.mark.usefixtures("wfdb")
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("../ecg1.dat", "got invalid syntax in signal line"),
        ("s3://bucket/x.dat", "got invalid syntax in signal line"),
        ("no.dat", "No such file"),
    ],
)
def test_headers_of_wfdb_name_files_of_their_folder_only(tmp_path, name, message):
    folder = tmp_path / "records"
    folder.mkdir()
    write_wfdb(tmp_path)  # a file that exists, outside of the folder
    write_wfdb(folder)
    header = folder / "ecg1.hea"
    header.write_text(header.read_text().replace("ecg1.dat", name))
    with pytest.raises(DataError, match=message):
        MultimodalData.from_recordings(folder)


@pytest.mark.usefixtures("wfdb")
def test_headers_of_wfdb_cannot_claim_any_size(tmp_path):
    write_wfdb(tmp_path)
    header = tmp_path / "ecg1.hea"
    header.write_text(header.read_text().replace("500", "900000000000"))
    with pytest.raises(DataError, match="must hold at most"):
        MultimodalData.from_recordings(tmp_path)
    header.write_text("ecg1/2 2 250 500\necg1 250\necg1 250\n")
    with pytest.raises(DataError, match="several segments"):
        MultimodalData.from_recordings(tmp_path)


@pytest.mark.parametrize(("name", "library"), [("a.edf", "edfio"), ("a.hea", "wfdb")])
def test_missing_libraries_are_named(tmp_path, monkeypatch, name, library):
    (tmp_path / name).write_bytes(b"")
    monkeypatch.setitem(__import__("sys").modules, library, None)
    with pytest.raises(ConfigError, match=rf"needs {library}.*mmgraph\[recordings\]"):
        MultimodalData.from_recordings(tmp_path)
