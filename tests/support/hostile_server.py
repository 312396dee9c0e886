"""Servers that answer a client with whatever bytes or messages a test gives them."""

import contextlib
import json
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent import futures

import grpc
from google.protobuf import json_format
from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef
from tensorflow_serving.apis import get_model_metadata_pb2

DTYPES = {"string": 7, "float": 1, "int32": 3, "bool": 10}


def signature(**outputs: tuple[str, ...]) -> SignatureDef:
    """A signature of the input `text`; each output is a dtype and the sizes after the batch."""
    definition = SignatureDef(method_name="tensorflow/serving/predict")
    infos = [(definition.inputs["text"], ("string",))]
    infos += [(definition.outputs[name], spec) for name, spec in outputs.items()]
    for info, (dtype, *sizes) in infos:
        info.name, info.dtype = "tensor:0", DTYPES[dtype]
        for size in (-1, *sizes):
            info.tensor_shape.dim.add(size=size)
    return definition


def http_response(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    """An HTTP response whose Content-Length is that of the body."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


def metadata_response(definition: SignatureDef) -> bytes:
    """The response to a request for metadata over REST."""
    definitions = get_model_metadata_pb2.SignatureDefMap()
    definitions.signature_def["serving_default"].CopyFrom(definition)
    content = {"metadata": {"signature_def": json_format.MessageToDict(definitions)}}
    return http_response(json.dumps(content).encode())


@contextlib.contextmanager
def rest_server(
    metadata: bytes, respond: bytes | Callable[[socket.socket], object]
) -> Iterator[str]:
    """Yields the URL of a server that ignores what a request says.

    Args:
        metadata: Response to every GET.
        respond: Response to every POST, or what writes one to the connection.
    """
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                threading.Thread(target=converse, args=(connection,), daemon=True).start()

    def converse(connection):
        # The client closes the connection when it has had enough.
        with connection, connection.makefile("rb") as requests, contextlib.suppress(OSError):
            while line := requests.readline():
                length = 0
                while (header := requests.readline()) not in (b"\r\n", b""):
                    if header.lower().startswith(b"content-length:"):
                        length = int(header.split(b":")[1])
                requests.read(length)
                if line.startswith(b"GET"):
                    connection.sendall(metadata)
                elif callable(respond):
                    respond(connection)
                    return
                else:
                    connection.sendall(respond)
                    connection.shutdown(socket.SHUT_WR)
                    return

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)  # ends `accept`
        listener.close()


@contextlib.contextmanager
def grpc_server(metadata: bytes, respond: Callable[[grpc.ServicerContext], bytes]) -> Iterator[str]:
    """Yields the URL of a server that answers with bytes of its own.

    Args:
        metadata: Response to every request for metadata.
        respond: Returns the response to every other request.
    """

    class Handler(grpc.GenericRpcHandler):
        def service(self, details):
            is_metadata = details.method.endswith("GetModelMetadata")
            return grpc.unary_unary_rpc_method_handler(
                lambda request, context: metadata if is_metadata else respond(context)
            )

    server = grpc.server(
        futures.ThreadPoolExecutor(2), options=[("grpc.max_send_message_length", -1)]
    )
    server.add_generic_rpc_handlers((Handler(),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"grpc://127.0.0.1:{port}"
    finally:
        server.stop(0)
