"""A cut, damaged, foreign or newer file is refused with one clear line: never a wrong total, never a crash."""

import gzip
import hashlib
import io
import json
import os
import pickle
import random
import tarfile
import tracemalloc
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vramscope.errors import RecordingError
from vramscope.recording.archive import write_archive
from vramscope.recording.file import Header, RecordingWriter, iterate_parts, read_recording, write_recording
from vramscope.recording.header import pack_header
from vramscope.recording.parts import pack_commit, pack_part
from vramscope.recording.recording import Recording

from .samples import assert_same, step_recording

ENDING = 200
"""The last bytes of a sealed file: the zip's end record and the checksum."""


def refusal(path: Path) -> str:
    """The one line with which a file is refused."""
    with pytest.raises(RecordingError) as caught:
        read_recording(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    with pytest.raises(RecordingError):
        list(iterate_parts(path))
    return message.removeprefix(f"{path}: ")


@pytest.fixture
def sealed(tmp_path: Path) -> Path:
    path = tmp_path / "sample.vram"
    with RecordingWriter(path) as writer:
        writer.append(step_recording(0))
        writer.append(step_recording(1))
    return path


# -- cut and damaged ------------------------------------------------------------------------------------------------


def test_500_random_flips_are_refused(sealed: Path):
    write_recording(step_recording(events=5000), sealed)
    content = sealed.read_bytes()
    choose = random.Random(0)
    for _ in range(500):
        damaged = bytearray(content)
        damaged[choose.randrange(len(content))] ^= choose.randrange(1, 256)
        sealed.write_bytes(damaged)
        refusal(sealed)


def test_every_flipped_bit_of_the_ending_is_refused(sealed: Path):
    content = sealed.read_bytes()
    for place in range(len(content) - ENDING, len(content)):
        for bit in range(8):
            damaged = bytearray(content)
            damaged[place] ^= 1 << bit
            sealed.write_bytes(damaged)
            refusal(sealed)


def test_every_flipped_byte_is_refused(sealed: Path):
    content = sealed.read_bytes()
    choose = random.Random(1)
    for place in range(len(content)):
        damaged = bytearray(content)
        damaged[place] ^= choose.randrange(1, 256)
        sealed.write_bytes(damaged)
        refusal(sealed)


def test_every_truncation_is_refused(sealed: Path):
    content = sealed.read_bytes()
    for length in range(len(content)):
        sealed.write_bytes(content[:length])
        refusal(sealed)


@pytest.mark.parametrize("more", [b"\0", b"\n", b"0" * 64, b"PK\x05\x06" + b"\0" * 18])
def test_a_lengthened_file_is_refused(sealed: Path, more: bytes):
    content = sealed.read_bytes()
    sealed.write_bytes(content + more)
    assert refusal(sealed) == "it is cut or damaged (its checksum does not match): copy or record it again"
    sealed.write_bytes(content + content)
    refusal(sealed)
    sealed.write_bytes(more + content)
    assert refusal(sealed) == "it is not a vramscope recording: choose a .vram file"


def test_a_damaged_folder_never_gives_other_facts(tmp_path: Path):
    writer = RecordingWriter(tmp_path / "a.vram")
    writer.append(step_recording(0))
    writer.append(step_recording(1))
    folder = tmp_path / "a.vram.part"
    allowed = [read_recording(folder).events.total.tolist(), step_recording(0).events.total.tolist()]
    choose = random.Random(2)
    for file in sorted(folder.iterdir()):
        content = file.read_bytes()
        for place in range(len(content)):
            damaged = bytearray(content)
            damaged[place] ^= choose.randrange(1, 256)
            file.write_bytes(damaged)
            try:
                recording = read_recording(folder)
            except RecordingError:
                continue
            assert not recording.complete
            assert recording.events.total.tolist() in allowed
            assert recording.environment == step_recording().environment
        file.write_bytes(content)


# -- foreign --------------------------------------------------------------------------------------------------------


class Bait:
    """A pickle of this leaves a file behind when it is loaded."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.target,)


def zip_of(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(name.replace("__", "."), content)
    return buffer.getvalue()


def npz() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, events=np.arange(10))
    return buffer.getvalue()


def tar() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("meta.json"))
    return buffer.getvalue()


FOREIGN = {
    "zip": zip_of(a__txt=b"hello"),
    "empty zip": zip_of(),
    "zip with another meta": zip_of(meta__json=b'{"format": "something else"}', data__bin=b"\0" * 100),
    "npz": npz(),
    "npy": npz()[:6],
    "json": json.dumps({"schema": "vramscope/1", "passes": {}}).encode(),
    "the start of our meta.json": b'{"format": "vramscope recording", "version": "1.0", ',
    "html": b"<!doctype html><title>404 Not Found</title>",
    "text": "größe\n".encode("latin-1"),
    "zeros": bytes(4096),
    "tar": tar(),
    "gzip": gzip.compress(b"meta.json"),
    "png": b"\x89PNG\r\n\x1a\n" + bytes(100),
    "sqlite": b"SQLite format 3\0" + bytes(100),
    "elf": b"\x7fELF" + bytes(100),
    "old pickle": pickle.dumps({}, protocol=0),
}


@pytest.mark.parametrize("content", FOREIGN.values(), ids=FOREIGN.keys())
def test_foreign_files_are_refused(tmp_path: Path, content: bytes):
    (tmp_path / "foreign.vram").write_bytes(content)
    assert refusal(tmp_path / "foreign.vram") == "it is not a vramscope recording: choose a .vram file"


def test_an_empty_file_is_refused(tmp_path: Path):
    (tmp_path / "a.vram").touch()
    assert refusal(tmp_path / "a.vram") == "it is empty: it was cut, or never written"


def test_a_pickle_is_refused_unopened(tmp_path: Path):
    (tmp_path / "a.vram").write_bytes(pickle.dumps(Bait(tmp_path / "sprung")))
    assert refusal(tmp_path / "a.vram") == (
        "it is not a vramscope recording: is it a CUDA memory snapshot? use `vramscope snapshot`"
    )
    assert not (tmp_path / "sprung").exists()


def test_a_missing_file_is_refused(tmp_path: Path):
    assert refusal(tmp_path / "none.vram") == "there is no such file: check the name"
    assert refusal(tmp_path / "none" / "none.vram") == "there is no such file: check the name"


@pytest.mark.parametrize("name", [None, "notes.txt", "part-00000.npz", "meta.json.tmp"])
def test_a_folder_of_something_else_is_refused(tmp_path: Path, name: str | None):
    (tmp_path / "folder").mkdir()
    if name:
        (tmp_path / "folder" / name).write_text("{}")
    expected = "it is a folder without a recording (no meta.json in it): choose a .vram file"
    assert refusal(tmp_path / "folder") == expected


@pytest.mark.parametrize("content", ["", "{}", "[", "null", '{"format": "other"}', "[" * 100_000])
def test_a_folder_with_another_meta_is_refused(tmp_path: Path, content: str):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "meta.json").write_text(content)
    assert refusal(tmp_path / "folder") == "its meta.json is damaged or not vramscope's"


def test_a_pipe_is_refused_rather_than_waited_for(tmp_path: Path):
    os.mkfifo(tmp_path / "a.vram")
    assert refusal(tmp_path / "a.vram") == "it is no file"
    folder = tmp_path / "b.vram.part"
    folder.mkdir()
    os.mkfifo(folder / "meta.json")
    assert refusal(folder) == "its meta.json is missing"


def test_a_file_that_may_not_be_read_is_refused(tmp_path: Path, sealed: Path):
    sealed.chmod(0)
    if os.access(sealed, os.R_OK):
        pytest.skip("permissions do not bind this user")
    assert refusal(sealed) == "cannot be read (permission denied): check the file and its permissions"


# -- other versions -------------------------------------------------------------------------------------------------


def members_of(recording: Recording) -> dict[str, bytes]:
    """The members of a sealed file of one part."""
    header = Header.of(recording)
    part = pack_part(recording, 0, header)
    return {"meta.json": pack_header(header), "part-00000.npz": part, "part-00000.json": pack_commit(recording, part)}


def seal(path: Path, members: dict[str, bytes]) -> Path:
    """A file with a right checksum, whatever is in it."""
    with path.open("w+b") as file:
        write_archive(file, members.items())
    return path


def with_facts(meta: bytes, change: Callable[[dict[str, Any]], None]) -> bytes:
    """A `meta.json` with other facts and a checksum that fits them."""
    document = json.loads(meta)
    change(document["facts"])
    document["sha256"] = hashlib.sha256(json.dumps(document["facts"]).encode()).hexdigest()
    return json.dumps(document).encode()


def with_part(recording: Recording, change: Callable[[dict[str, bytes]], None]) -> dict[str, bytes]:
    """The members of a sealed file whose one part has other members, and a mark that fits it."""
    members = members_of(recording)
    with zipfile.ZipFile(io.BytesIO(members["part-00000.npz"])) as archive:
        inner = {name: archive.read(name) for name in archive.namelist()}
    change(inner)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in inner.items():
            archive.writestr(name, content)
    return {
        **members,
        "part-00000.npz": buffer.getvalue(),
        "part-00000.json": pack_commit(recording, buffer.getvalue()),
    }


def edit_json(inner: dict[str, bytes], **changes: Any) -> None:
    inner["part.json"] = json.dumps({**json.loads(inner["part.json"]), **changes}).encode()


NEWER, OLDER = "upgrade vramscope", "read it with the vramscope that wrote it"


@pytest.mark.parametrize(("version", "advice"), [("2.0", NEWER), ("10.3", NEWER), ("0.9", OLDER)])
def test_another_format_is_refused(tmp_path: Path, version: str, advice: str):
    members = members_of(step_recording())
    members["meta.json"] = members["meta.json"].replace(b'"1.0"', f'"{version}"'.encode())
    expected = f"it has format {version} and this vramscope reads 1.x: {advice}"
    assert refusal(seal(tmp_path / "new.vram", members)) == expected
    folder = tmp_path / "other.vram.part"
    folder.mkdir()
    for name, content in members.items():
        (folder / name).write_bytes(content)
    assert refusal(folder) == expected


def test_additions_of_a_newer_minor_version_are_ignored(tmp_path: Path):
    recording = step_recording()

    def extend(inner: dict[str, bytes]) -> None:
        facts = json.loads(inner["part.json"])
        events = np.load(io.BytesIO(inner["events.npy"]))
        buffer = io.BytesIO()
        np.save(buffer, np.concatenate([np.full_like(events[:1], 7), events]))
        inner["events.npy"] = buffer.getvalue()
        facts["columns"]["events"].insert(0, "colour")
        facts["devices"][0]["temperature"] = 40
        edit_json(inner, columns={**facts["columns"], "stacks": ["frame"]}, devices=facts["devices"], mood="good")
        inner["stacks.npy"] = b"who knows"

    members = with_part(recording, extend)
    members["meta.json"] = with_facts(members["meta.json"], lambda facts: facts.update(weather="fine"))
    members["meta.json"] = members["meta.json"].replace(b'"1.0"', b'"1.9"')
    members["part-00000.json"] = json.dumps({**json.loads(members["part-00000.json"]), "level": 9}).encode()
    members["thumbnail.png"] = b"\x89PNG"
    assert_same(read_recording(seal(tmp_path / "newer.vram", members)), recording)


# -- forged: right checksums around content that no version of vramscope wrote ----------------------------------------


def npy(array: Any, **how: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, **how)
    return buffer.getvalue()


def npy_header(shape: tuple[int, ...], dtype: str = "|u1") -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": dtype, "fortran_order": False, "shape": shape})
    return buffer.getvalue()


PLANES = np.zeros((8, 8, 6), dtype=np.uint8)
FORGED_EVENTS = {
    "another dtype": npy(PLANES.astype(np.int8)),
    "plain 64-bit columns": npy(np.zeros((8, 6), dtype=np.int64)),
    "too few columns": npy(PLANES[:7]),
    "a flat shape": npy(PLANES.reshape(-1)),
    "a shape without rows": npy(PLANES[:, :, 0]),
    "Fortran order": npy(np.asfortranarray(PLANES)),
    "a shape larger than the data": npy_header((8, 8, 2**40)) + bytes(384),
    "a shape beyond 64 bits": npy_header((8, 8, 2**70)) + bytes(384),
    "a negative shape": npy_header((8, 8, -6)) + bytes(384),
    "data behind the table": npy(PLANES) + b"\0",
    "data cut": npy(PLANES)[:-1],
    "no array": b"hello",
    "nothing": b"",
    "a header that is no Python": npy(PLANES).replace(b"{'descr'", b"{{descr}"),
    "a newer array format": npy(PLANES).replace(b"NUMPY\x01", b"NUMPY\x03"),
}


@pytest.mark.parametrize("content", FORGED_EVENTS.values(), ids=FORGED_EVENTS.keys())
def test_a_forged_table_is_refused(tmp_path: Path, content: bytes):
    members = with_part(step_recording(), lambda inner: inner.update({"events.npy": content}))
    refusal(seal(tmp_path / "forged.vram", members))


def test_objects_in_a_table_are_refused_unopened(tmp_path: Path):
    bait = np.asarray([Bait(tmp_path / "sprung")] * 384, dtype=object).reshape(8, 8, 6)
    members = with_part(step_recording(), lambda inner: inner.update({"events.npy": npy(bait)}))
    assert refusal(seal(tmp_path / "forged.vram", members)) == "one of its arrays is not a table of vramscope's"
    assert not (tmp_path / "sprung").exists()


DEVICE = {"name": "cpu", "description": "", "start_total": 0, "end_total": 0}
FORGED_FACTS: dict[str, dict[str, Any]] = {
    "no columns": {"columns": {}},
    "columns that are no list": {"columns": {"events": 8}},
    "columns that are no names": {"columns": {"events": [1] * 8}},
    "a column that is missing": {"columns": {"events": list("abcdefgh")}},
    "another encoding": {"encoding": "raw"},
    "a window that is no number": {"window": "first"},
    "a window that is a truth": {"window": True},
    "no list of devices": {"devices": 3},
    "a device that is no object": {"devices": ["cpu"]},
    "a device without a name": {"devices": [{**DEVICE, "name": None}]},
    "a total that is a fraction": {"devices": [{**DEVICE, "end_total": 0.5}]},
    "a total that is a truth": {"devices": [{**DEVICE, "end_total": True}]},
    "a total beyond 64 bits": {"devices": [{**DEVICE, "end_total": 2**63}]},
    "too few devices": {"devices": []},
    "notes that are no list": {"notes": "none"},
    "notes that are no text": {"notes": [1]},
    "an environment that is a list": {"environment": []},
}


@pytest.mark.parametrize("changes", FORGED_FACTS.values(), ids=FORGED_FACTS.keys())
def test_forged_facts_of_a_part_are_refused(tmp_path: Path, changes: dict[str, Any]):
    refusal(seal(tmp_path / "forged.vram", with_part(step_recording(), lambda inner: edit_json(inner, **changes))))


@pytest.mark.parametrize(
    "changes",
    [
        {"source": "oracle"},
        {"source": None},
        {"devices": None},
        {"workload": 1},
        {"environment": None},
        {"notes": None},
    ],
    ids=str,
)
def test_forged_facts_of_the_header_are_refused(tmp_path: Path, changes: dict[str, Any]):
    members = members_of(step_recording())
    members["meta.json"] = with_facts(members["meta.json"], lambda facts: facts.update(changes))
    refusal(seal(tmp_path / "forged.vram", members))


@pytest.mark.parametrize(
    "strings", [b"{}", b"[1, 2, 3]", b'["step"]', b"[", b"\xff", b"9" * 5000, b"[" * 100_000], ids=len
)
def test_forged_strings_are_refused(tmp_path: Path, strings: bytes):
    members = with_part(step_recording(), lambda inner: inner.update({"strings.json": strings}))
    refusal(seal(tmp_path / "forged.vram", members))


@pytest.mark.parametrize("name", ["part.json", "strings.json", "scopes.npy", "seeds.npy"])
def test_a_part_without_one_of_its_members_is_refused(tmp_path: Path, name: str):
    members = with_part(step_recording(), lambda inner: inner.pop(name))
    refusal(seal(tmp_path / "forged.vram", members))


@pytest.mark.parametrize("name", ["meta.json", "part-00000.npz", "part-00000.json"])
def test_a_file_without_one_of_its_members_is_refused(tmp_path: Path, name: str):
    members = members_of(step_recording())
    del members[name]
    refusal(seal(tmp_path / "forged.vram", members))


def test_parts_with_a_gap_are_refused(tmp_path: Path):
    members = members_of(step_recording())
    members.update({name.replace("00000", "00002"): content for name, content in members.items() if "part" in name})
    assert refusal(seal(tmp_path / "forged.vram", members)) == "parts of it are missing: record it again"


def test_a_mark_that_does_not_fit_its_part_is_refused(tmp_path: Path):
    members = members_of(step_recording())
    rows = json.loads(members["part-00000.json"])["rows"]
    for changes in ({"sha256": "0" * 64}, {"bytes": 1}, {"rows": {**rows, "events": 7}}, {"rows": None}):
        commit = json.dumps({**json.loads(members["part-00000.json"]), **changes}).encode()
        assert (
            refusal(seal(tmp_path / "forged.vram", {**members, "part-00000.json": commit})) == "its part 0 is damaged"
        )


def test_a_member_that_the_listing_does_not_know_is_refused(tmp_path: Path):
    members = members_of(step_recording())
    path = seal(tmp_path / "forged.vram", members)
    replace_listing(path, {name: hashlib.sha256(content).hexdigest() for name, content in members.items()})
    assert_same(read_recording(path), step_recording())
    for name in members:
        replace_listing(path, {other: hashlib.sha256(members[other]).hexdigest() for other in members if other != name})
        assert refusal(path) == f"its {name} is damaged"


def replace_listing(path: Path, digests: dict[str, str]) -> None:
    """Rewrite a sealed file with another `members.json`, and a checksum that fits it."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members["members.json"] = json.dumps({"sha256": digests}).encode()
    rewrite(path, members, zipfile.ZIP_STORED)


def rewrite(path: Path, members: dict[str, bytes], kind: int) -> None:
    """A sealed file of these members, packed in this way behind the first, with a right checksum."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, member in members.items():
            archive.writestr(zipfile.ZipInfo(name), member, zipfile.ZIP_STORED if name == "meta.json" else kind)
        archive.comment = b"0" * 64
    content = path.read_bytes()[:-64]
    path.write_bytes(content + hashlib.sha256(content).hexdigest().encode())


@pytest.mark.parametrize("commit", [b"", b"[]", b"{", b"[" * 100_000], ids=len)
def test_a_mark_that_is_no_object_is_refused(tmp_path: Path, commit: bytes):
    refusal(seal(tmp_path / "forged.vram", {**members_of(step_recording()), "part-00000.json": commit}))


def test_a_packed_member_is_refused(tmp_path: Path):
    path = seal(tmp_path / "forged.vram", members_of(step_recording()))
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    rewrite(path, members, zipfile.ZIP_DEFLATED)
    assert refusal(path) == "its members.json is packed in a way vramscope does not write"


def bomb(declared_bytes: int | None) -> bytes:
    """64 MiB of zeros in 64 KiB, with another declared size where one is given."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("part.json", bytes(64 << 20))
    content = bytearray(buffer.getvalue())
    if declared_bytes is not None:
        entry = content.index(b"PK\x01\x02")
        content[entry + 24 : entry + 28] = declared_bytes.to_bytes(4, "little")
    return bytes(content)


@pytest.mark.parametrize(
    ("declared_bytes", "message"),
    [
        (0x7FFFFFFF, "its part.json claims 2147483647 bytes, more than it can hold"),
        (100, "its part 0 is damaged (Bad CRC-32 for file 'part.json')"),
    ],
)
def test_a_zip_bomb_is_refused_before_it_unfolds(tmp_path: Path, declared_bytes: int, message: str):
    members = members_of(step_recording())
    members["part-00000.npz"] = bomb(declared_bytes)
    members["part-00000.json"] = pack_commit(step_recording(), members["part-00000.npz"])
    seal(tmp_path / "bomb.vram", members)
    tracemalloc.start()
    try:
        assert refusal(tmp_path / "bomb.vram") == message
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 8 << 20


# -- readers and writers at once ------------------------------------------------------------------------------------


def test_readers_see_one_whole_recording_while_it_is_replaced(tmp_path: Path):
    versions = [step_recording(0, events=2000), step_recording(1, events=4000)]
    path = tmp_path / "a.vram"
    write_recording(versions[0], path)

    def read_often(_: int) -> set[int]:
        lengths = set()
        for _ in range(50):
            recording = read_recording(path)
            assert_same(recording, versions[int(recording.scopes.value[0])])
            lengths.add(len(recording.events))
        return lengths

    with ThreadPoolExecutor(4) as pool:
        readers = pool.map(read_often, range(4))
        for turn in range(40):
            write_recording(versions[turn % 2], path)
        assert set.union(*readers) <= {2000, 4000}
