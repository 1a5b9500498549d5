"""Documents that come compressed or inside of a page are read as the JSON is."""

import base64
import gzip
from pathlib import Path

import pytest

import bertprof
from bertprof import documents, record, report, schema
from bertprof.errors import RecordError

REAL = Path(__file__).parent / "data" / "bert-base-uncased.json"


def page_of(*contents: bytes) -> bytes:
    packed = (base64.b64encode(content).decode() for content in contents)
    links = (f'<a download="x" href="data:application/gzip;base64,{each}" data-record>x</a>' for each in packed)
    return f"\n<!DOCTYPE html>\n<p>{' '.join(links)}</p>".encode()


def test_a_compressed_record_is_the_record(tmp_path: Path):
    path = tmp_path / "bert.json.gz"
    path.write_bytes(gzip.compress(REAL.read_bytes()))
    assert schema.encode(bertprof.load(path)) == schema.encode(bertprof.load(REAL))


def test_so_is_what_a_page_carries(tmp_path: Path):
    path = tmp_path / "bert.html"
    path.write_bytes(page_of(gzip.compress(REAL.read_bytes())))
    assert schema.encode(documents.load_any(path)) == schema.encode(bertprof.load(REAL))


def test_a_report_is_as_good_as_its_record(tmp_path: Path):
    breakdown = bertprof.load(REAL)
    breakdown.label = '</script><a href="data:application/gzip;base64,AAAA" data-record>'
    path = tmp_path / "bert.html"
    breakdown.save(path)
    again = documents.load_any(path)
    assert schema.encode(again) == schema.encode(breakdown)
    assert report.render(again, path) == path.read_bytes()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (page_of(), "is no page of bertprof's: it carries no record"),
        (page_of(gzip.compress(b"{}"), gzip.compress(b"{}")), "carries 2 records: save each from it"),
        (page_of(gzip.compress(b"{}" * 100)[:-9]), "may have been cut short"),
        (gzip.compress(REAL.read_bytes())[:-100], "may have been cut short"),
        (b"\x1f\x8bnot compressed at all", "may have been cut short"),
        (page_of(b"{}").replace(b"base64,e30=", b"base64,e3"), "may have been cut short"),
        (page_of(b"{}"), 'no "schema"'),
        (b"<", "carries no record"),
        (b"", "may have been cut short"),
    ],
)
def test_what_is_packed_wrongly_is_said_in_a_line(content: bytes, says: str):
    with pytest.raises(RecordError) as refused:
        record.of(schema.head_of(content, "x.html"), "x.html")
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


def test_what_unpacks_without_end_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(schema, "MOST_BYTES", 1000)
    packed = gzip.compress(b" " * 1001)
    with pytest.raises(RecordError, match="unpacks to more than 1,000 bytes"):
        schema.unpacked(packed, "x")
    assert schema.unpacked(gzip.compress(b" " * 1000), "x") == b" " * 1000
