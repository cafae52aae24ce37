"""The echo service in Python: server.py ADDRESS [CERT KEY]. What each method does stands in ../foreign.go."""

import signal
import sys
import threading
from concurrent import futures

import grpc


class Echo(grpc.GenericRpcHandler):
    """Serves raw bytes: without serializers, grpcio hands them through."""

    def __init__(self):
        self.left = []  # a call of Hang each that the client left
        self.methods = {
            'Unary': grpc.unary_unary_rpc_method_handler(self.unary),
            'Collect': grpc.stream_unary_rpc_method_handler(self.collect),
            'Spread': grpc.unary_stream_rpc_method_handler(self.spread),
            'Chat': grpc.stream_stream_rpc_method_handler(self.chat),
            'Fail': grpc.unary_unary_rpc_method_handler(self.fail),
            'Hang': grpc.unary_stream_rpc_method_handler(self.hang),
            'Ended': grpc.unary_unary_rpc_method_handler(lambda request, context: b'%d' % len(self.left)),
            'Remaining': grpc.unary_unary_rpc_method_handler(
                lambda request, context: b'%d' % (context.time_remaining() * 1000)),
        }

    def service(self, details):
        service, _, method = details.method.rpartition('/')
        return self.methods.get(method) if service == '/capguard.conformance.Echo' else None

    def unary(self, request, context):
        metadata = context.invocation_metadata()
        context.send_initial_metadata([(k, v) for k, v in metadata if k == 'x-echo'])
        context.set_trailing_metadata([(k, v) for k, v in metadata if k == 'x-echo-bin'])
        return request

    def collect(self, requests, context):
        return b''.join(requests)

    def spread(self, request, context):
        for i in range(5):
            yield request + b'%d' % i

    def chat(self, requests, context):
        yield from requests

    def fail(self, request, context):
        context.set_trailing_metadata([('grpc-status-details-bin', request), ('x-why', 'because')])
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, 'nöt now: 100 %')

    def hang(self, request, context):
        over = threading.Event()

        def leave():  # not after the wait, which a call that ends early never comes to
            self.left.append(request)
            over.set()

        context.add_callback(leave)
        yield request
        over.wait()


def main(address, *files):
    options = [('grpc.max_receive_message_length', -1), ('grpc.max_send_message_length', -1), ('grpc.so_reuseport', 0)]
    # Answers are compressed for the clients that accept it.
    server = grpc.server(futures.ThreadPoolExecutor(16), [Echo()], options=options, compression=grpc.Compression.Gzip)
    if files:
        cert, key = (open(f, 'rb').read() for f in files)
        server.add_secure_port(address, grpc.ssl_server_credentials([(key, cert)]))
    else:
        server.add_insecure_port(address)
    server.start()
    signal.signal(signal.SIGTERM, lambda *_: server.stop(0))
    server.wait_for_termination()


main(*sys.argv[1:])
