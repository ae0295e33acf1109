"""Optional libraries: formats that need none open without them, and a missing one is answered with what to install."""

import sys

import numpy as np
import pytest

from emgd_drivers.replay import FORMATS, RecordingError, open_recording


@pytest.mark.parametrize(
    ("suffix", "library", "reader", "name"),
    [
        (".hea", "wfdb", "wfdb_reader", "WFDB"),
        (".edf", "edfio", "edf_reader", "EDF"),
        (".bdf", "edfio", "edf_reader", "BDF"),
    ],
)
def test_a_missing_library_is_named_with_the_remedy(monkeypatch, tmp_path, suffix, library, reader, name):
    monkeypatch.setitem(sys.modules, library, None)
    monkeypatch.delitem(sys.modules, f"emgd_drivers.replay.{reader}", raising=False)
    path = tmp_path / f"rec{suffix}"
    path.touch()
    with pytest.raises(RecordingError) as caught:
        open_recording(path)
    text = str(caught.value)
    assert text.startswith(f"{path}: reading {name} needs a library that does not load (")
    assert library in text
    assert text.endswith("; pip install 'emgd[replay]'")


def test_other_formats_need_no_optional_library(monkeypatch, tmp_path):
    for library in ("wfdb", "edfio"):
        monkeypatch.setitem(sys.modules, library, None)
    np.savez(tmp_path / "rec.npz", emg=np.zeros(5, np.int16), fs_hz=10, lsb_uV=1)
    assert open_recording(tmp_path / "rec.npz").length == 5


@pytest.mark.parametrize("suffix", FORMATS)
def test_every_format_in_the_table_has_its_reader(suffix):
    module, function = FORMATS[suffix].reader.split(":")
    loaded = pytest.importorskip(
        f"emgd_drivers.replay.{module}", reason=f"{suffix} needs a library", exc_type=ImportError
    )
    assert callable(getattr(loaded, function))
