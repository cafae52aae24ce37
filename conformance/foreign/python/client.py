"""The client of the echo service in Python: client.py ADDRESS [CA]. It prints a line for each case."""

import sys
import time

import grpc

OPTIONS = [('grpc.max_receive_message_length', -1), ('grpc.max_send_message_length', -1), ('grpc.enable_http_proxy', 0)]
SOON = 20


class Client:
    """A channel to the service; without serializers, grpcio hands raw bytes through."""

    def __init__(self, address, ca, **more):
        if ca:
            credentials = grpc.ssl_channel_credentials(open(ca, 'rb').read())
            self.channel = grpc.secure_channel(address, credentials, OPTIONS, **more)
        else:
            self.channel = grpc.insecure_channel(address, OPTIONS, **more)
        path = '/capguard.conformance.Echo/'
        self.unary = lambda method: self.channel.unary_unary(path + method)
        self.collect = self.channel.stream_unary(path + 'Collect')
        self.stream = lambda method: self.channel.unary_stream(path + method)
        self.chat = self.channel.stream_stream(path + 'Chat')


def equal(got, want):
    if got != want:
        raise AssertionError(f'got {got!r:.200}, want {want!r:.200}')


def failure(code, play):
    try:
        play()
    except grpc.RpcError as err:
        equal(err.code(), code)
        return err
    raise AssertionError('the call did not fail')


class Cases:
    def __init__(self, address, ca):
        self.address, self.ca = address, ca
        self.client = Client(address, ca)

    def unary(self):
        equal(self.client.unary('Unary')(bytes([0, 1, 2, 255]), timeout=SOON), bytes([0, 1, 2, 255]))

    def empty(self):
        equal(self.client.unary('Unary')(b'', timeout=SOON), b'')

    def client_stream(self):
        parts = [b'%d,' % i for i in range(100)]
        equal(self.client.collect(iter(parts), timeout=SOON), b''.join(parts))

    def server_stream(self):
        equal(list(self.client.stream('Spread')(b'm', timeout=SOON)), [b'm0', b'm1', b'm2', b'm3', b'm4'])

    def bidi(self):
        got = []

        def questions():  # each is asked when the answer before it is there
            for i in range(20):
                while len(got) < i:
                    time.sleep(0.001)
                yield b'%d' % i

        for answer in self.client.chat(questions(), timeout=SOON):
            got.append(answer)
        equal(got, [b'%d' % i for i in range(20)])

    def metadata(self):
        sent = [('x-echo', 'one'), ('x-echo', 'two words'), ('x-echo-bin', bytes([0, 200, 255]))]
        _, call = self.client.unary('Unary').with_call(b'm', timeout=SOON, metadata=sent)
        equal(', '.join(v for k, v in call.initial_metadata() if k == 'x-echo'), 'one, two words')
        equal([v for k, v in call.trailing_metadata() if k == 'x-echo-bin'], [bytes([0, 200, 255])])

    def status_details(self):
        err = failure(grpc.StatusCode.FAILED_PRECONDITION,
                      lambda: self.client.unary('Fail')(bytes([8, 9, 250]), timeout=SOON))
        equal(err.details(), 'nöt now: 100 %')
        trailers = dict(err.trailing_metadata())
        equal((trailers.get('grpc-status-details-bin'), trailers.get('x-why')), (bytes([8, 9, 250]), 'because'))

    def unimplemented(self):
        failure(grpc.StatusCode.UNIMPLEMENTED, lambda: self.client.unary('NoSuchMethod')(b'm', timeout=SOON))

    def deadline(self):
        call = self.client.stream('Hang')(b'm', timeout=0.4)
        equal(next(call), b'm')
        failure(grpc.StatusCode.DEADLINE_EXCEEDED, lambda: next(call))

    def deadline_seen(self):
        ms = int(self.client.unary('Remaining')(b'', timeout=9))
        equal(4000 < ms <= 9100 or ms, True)  # grpcio rounds up

    def ended(self):
        return int(self.client.unary('Ended')(b'', timeout=SOON))

    def cancel(self):
        before = self.ended()
        call = self.client.stream('Hang')(b'm', timeout=SOON)
        equal(next(call), b'm')
        call.cancel()
        failure(grpc.StatusCode.CANCELLED, lambda: next(call))
        for _ in range(100):
            if self.ended() != before:
                return
            time.sleep(0.05)
        raise AssertionError('the server does not hear of it')

    def gzip(self):
        client = Client(self.address, self.ca, compression=grpc.Compression.Gzip)
        message = b'all work and no play ' * 5000
        equal(client.unary('Unary')(message, timeout=SOON), message)
        client.channel.close()

    def large(self):
        message = b'all work' * (1 << 20)
        equal(self.client.unary('Unary')(message, timeout=SOON) == message, True)

    def many(self):
        calls = [self.client.unary('Unary').future(b'%d' % i, timeout=SOON) for i in range(200)]
        equal([int(call.result()) for call in calls], list(range(200)))


NAMES = ['unary', 'empty', 'client_stream', 'server_stream', 'bidi', 'metadata', 'status_details', 'unimplemented',
         'deadline', 'deadline_seen', 'cancel', 'gzip', 'large', 'many']


def main(address, ca=None):
    cases = Cases(address, ca)
    for name in NAMES:
        try:
            getattr(cases, name)()
            print('ok', name)
        except Exception as err:  # whatever goes wrong is the result of this case
            print(f'FAIL {name}: {err}'.replace('\n', ' '))
    cases.client.channel.close()


main(*sys.argv[1:])
