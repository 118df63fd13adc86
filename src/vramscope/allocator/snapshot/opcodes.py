"""A look at a pickle's opcodes before it is loaded: nothing that could run code or exhaust memory gets through.

The loader then works on instructions that only build dicts, lists, strings and numbers, and integer pairs. Long
stretches of harmless instructions are skipped by one regular expression, about 5 ms per MB; files so large that they
could exhaust memory are counted instruction by instruction, about ten times slower.
"""

import mmap
import re
from dataclasses import dataclass

from vramscope.errors import RecordingError

MEMORY_LIMIT = 6 * 10**9
"""Bytes that the objects of a file may take when loaded; a genuine 1 GB snapshot takes 2 to 4 GB."""
_SMALL_LIMIT = 512 * 2**20
_GROWTH = 16  # a snapshot of nothing but bare blocks grows by 10 when loaded

_LONGS = b"|".join(b"\\x8a\\x%02x.{%d}" % (n, n) for n in (6, 5, 4, 7, 8, 3, 2, 1, 9, 0))
# Tuples only as pairs of integers, which is how a pool id is written: a nested tuple used as a key would be
# hashed recursively, and shared ones in exponential time.
_INTEGER = rb"(?:K.|M..|J....)"
_PAIR = _INTEGER + rb"(?:" + _INTEGER + rb"\x86)?+"
_REST = rb"[\x94()\]}aesuN\x88\x89]|" + _PAIR + rb"|" + _LONGS + rb"|G.{8}|q."
_RUN = re.compile(rb"(?s)(?:j....|h.|" + _REST + rb"){1,60000}+")
_TOKENS = re.compile(rb"(?s)(?:h.)++|(?:j....)++|" + _REST)

_STOP = ord(".")
_STRING_LENGTH_BYTES = {0x8C: 1, ord("X"): 4, 0x8D: 8, ord("C"): 1, ord("B"): 4}
_LONG_BINPUT = ord("r")
_FRAME = 0x95
_RUNS_CODE = {
    ord("c"): "GLOBAL",
    ord("R"): "REDUCE",
    ord("b"): "BUILD",
    ord("i"): "INST",
    ord("o"): "OBJ",
    ord("P"): "PERSID",
    ord("Q"): "BINPERSID",
    0x81: "NEWOBJ",
    0x82: "EXT1",
    0x83: "EXT2",
    0x84: "EXT4",
    0x92: "NEWOBJ_EX",
    0x93: "STACK_GLOBAL",
}
_NESTS = {ord("t"): "TUPLE", 0x85: "TUPLE1", 0x86: "TUPLE2", 0x87: "TUPLE3"}
# Bytes that one instruction costs when executed: the object, its place on the stack or in a list, the memo. A dict of
# up to ten entries takes 80 + 272.
_COST = {ord("}"): 280, ord("]"): 90, 0x94: 16, ord("q"): 16, ord("("): 16, ord("G"): 33, 0x8A: 41}
_DEFAULT_COST = 9
_INTEGER_LENGTH = {ord("K"): 2, ord("M"): 3, ord("J"): 5}
_INTEGER_COST = 41
_PAIR_COST = 140
_STRING_COST = 75


@dataclass
class _Progress:
    position: int
    cost: int = 0
    long_puts: int = 0


def check_opcodes(data: bytes | mmap.mmap, name: str, memory_limit: int = MEMORY_LIMIT) -> None:
    """Refuse a pickle that is not made of plain data, is cut, or would take too much memory.

    Args:
        data: the whole file, beginning with the PROTO instruction.
        name: the file, for the message.
        memory_limit: bytes that the loaded objects may take.

    Raises:
        RecordingError: naming the instruction and its place.
    """
    total, progress = len(data), _Progress(2)
    limit = min(memory_limit, max(_SMALL_LIMIT, _GROWTH * total))
    count = total * _COST[ord("}")] > limit
    while True:
        run = _RUN.match(data, progress.position)
        if run is not None:
            progress.cost += _run_cost(data, run.start(), run.end()) if count else 0
            progress.position = run.end()
        elif progress.position >= total:
            raise RecordingError(f"{name}: the file ends in the middle of its data; it was cut, copy it again")
        elif data[progress.position] == _STOP:
            break
        else:
            _step(data, progress, name)
        if progress.cost > limit:
            raise RecordingError(
                f"{name}: loading it would take over {limit} bytes of memory; it is no genuine snapshot"
            )
    if progress.position + 1 != total:
        raise RecordingError(f"{name}: {total - progress.position - 1} bytes follow the end of its data; it is damaged")


def _run_cost(data: bytes | mmap.mmap, start: int, end: int) -> int:
    """An upper estimate of the memory that a stretch of instructions takes."""
    cost = 0
    for token in _TOKENS.findall(data, start, end):
        opcode = token[0]
        if opcode == 0x68:  # a run of BINGET, two bytes each
            cost += _DEFAULT_COST * (len(token) // 2)
        elif opcode == 0x6A:  # a run of LONG_BINGET, five bytes each
            cost += _DEFAULT_COST * (len(token) // 5)
        elif opcode in _INTEGER_LENGTH:  # one, or a pair
            cost += _INTEGER_COST if len(token) == _INTEGER_LENGTH[opcode] else _PAIR_COST
        else:
            cost += _COST.get(opcode, _DEFAULT_COST)
    return cost


def _step(data: bytes | mmap.mmap, progress: _Progress, name: str) -> None:
    """Pass over one instruction that the regular expression leaves alone."""
    position = progress.position
    opcode = data[position]
    if opcode in _STRING_LENGTH_BYTES:
        header = 1 + _STRING_LENGTH_BYTES[opcode]
        length = int.from_bytes(data[position + 1 : position + header], "little")
        progress.position += header + length
        progress.cost += _STRING_COST + 4 * length
    elif opcode == _FRAME:
        # the loader would ask for the whole frame at once; its content is looked at next
        if int.from_bytes(data[position + 1 : position + 9], "little") > len(data) - position - 9:
            raise RecordingError(f"{name}: the file ends in the middle of its data; it was cut, copy it again")
        progress.position += 9
    elif opcode == _LONG_BINPUT:
        _check_memo_index(data, progress, name)
        progress.position += 5
        progress.long_puts += 1
        progress.cost += _COST[ord("q")]
    else:
        raise RecordingError(_refusal(opcode, position, name, len(data)))


def _check_memo_index(data: bytes | mmap.mmap, progress: _Progress, name: str) -> None:
    """The memo is an array: an index far beyond what was stored would allocate gigabytes for nothing."""
    index = int.from_bytes(data[progress.position + 1 : progress.position + 5], "little")
    # a pickler counts up, and the first 256 indices have an instruction of their own
    if index > 256 + progress.long_puts:
        raise RecordingError(
            f"{name}: byte {progress.position} stores at memo index {index}, a memory bomb; it is no genuine snapshot"
        )


def _refusal(opcode: int, position: int, name: str, total: int) -> str:
    if opcode in _RUNS_CODE:
        return (
            f"{name}: byte {position} holds the pickle instruction {_RUNS_CODE[opcode]}, which can run code; "
            "snapshots hold plain data only, nothing was loaded"
        )
    if opcode in _NESTS:
        return f"{name}: byte {position} nests tuples ({_NESTS[opcode]}), which no snapshot does; nothing was loaded"
    if total - position < 10:
        return f"{name}: the file ends in the middle of its data; it was cut, copy it again"
    return (
        f"{name}: byte {position} is no instruction of a snapshot (0x{opcode:02x}); damaged, or another kind of pickle"
    )
