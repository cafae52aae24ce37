// The client of the echo service in Node.js: node client.js ADDRESS [CA]. It prints a line for each case.
'use strict';

const assert = require('assert');
const fs = require('fs');
const grpc = require('@grpc/grpc-js');

const [address, ca] = process.argv.slice(2);
const options = {
  'grpc.max_receive_message_length': -1, 'grpc.max_send_message_length': -1, 'grpc.enable_http_proxy': 0,
  ...(ca && { 'grpc.ssl_target_name_override': 'localhost' }),
};
const credentials = ca ? grpc.credentials.createSsl(fs.readFileSync(ca)) : grpc.credentials.createInsecure();
const open = (more) => new grpc.Client(address, credentials, { ...options, ...more });
const client = open({});

const raw = (value) => value;
const path = (method) => '/capguard.conformance.Echo/' + method;
const soon = (ms = 20000) => ({ deadline: Date.now() + ms });
const text = (length) => Buffer.alloc(length, 'all work and no play ');

// unary returns what a call got: {value, headers, trailers}, or throws its error.
function unary(method, message, { metadata = new grpc.Metadata(), over = client, ms } = {}) {
  return new Promise((resolve, reject) => {
    const got = {};
    const call = over.makeUnaryRequest(path(method), raw, raw, message, metadata, soon(ms), (err, value) => {
      got.value = value;
      // The status event comes after this.
      call.once('status', (status) => (err ? reject(err) : resolve({ ...got, trailers: status.metadata })));
    });
    call.on('metadata', (headers) => (got.headers = headers));
  });
}

// all returns what a stream sent until its end, or throws its error with what it sent before.
function all(call) {
  return new Promise((resolve, reject) => {
    const messages = [];
    call.on('data', (message) => messages.push(message));
    call.on('error', (err) => reject(Object.assign(err, { messages })));
    call.on('end', () => resolve(messages));
  });
}

async function fails(code, promise) {
  const err = await promise.then(() => assert.fail('the call did not fail'), (err) => err);
  assert.strictEqual(err.code, code, err.message);
  return err;
}

async function ended() {
  return Number((await unary('Ended', Buffer.alloc(0))).value);
}

const cases = {
  async unary() {
    assert.deepStrictEqual((await unary('Unary', Buffer.from([0, 1, 2, 255]))).value, Buffer.from([0, 1, 2, 255]));
  },
  async empty() {
    assert.strictEqual((await unary('Unary', Buffer.alloc(0))).value.length, 0);
  },
  async client_stream() {
    const got = await new Promise((resolve, reject) => {
      const call = client.makeClientStreamRequest(path('Collect'), raw, raw, new grpc.Metadata(), soon(),
        (err, value) => (err ? reject(err) : resolve(value)));
      for (let i = 0; i < 100; i++) call.write(Buffer.from(i + ','));
      call.end();
    });
    assert.strictEqual(String(got), [...Array(100).keys()].join(',') + ',');
  },
  async server_stream() {
    const got = await all(client.makeServerStreamRequest(path('Spread'), raw, raw, Buffer.from('m'), new grpc.Metadata(), soon()));
    assert.deepStrictEqual(got.map(String), ['m0', 'm1', 'm2', 'm3', 'm4']);
  },
  async bidi() {
    const call = client.makeBidiStreamRequest(path('Chat'), raw, raw, new grpc.Metadata(), soon());
    const got = [];
    call.write(Buffer.from('0'));
    await new Promise((resolve, reject) => {
      call.on('error', reject);
      call.on('end', resolve);
      call.on('data', (message) => {
        got.push(String(message));
        if (got.length < 20) call.write(Buffer.from(String(got.length)));
        else call.end();
      });
    });
    assert.deepStrictEqual(got, [...Array(20).keys()].map(String));
  },
  async metadata() {
    const metadata = new grpc.Metadata();
    metadata.add('x-echo', 'one');
    metadata.add('x-echo', 'two words');
    metadata.add('x-echo-bin', Buffer.from([0, 200, 255]));
    const got = await unary('Unary', Buffer.from('m'), { metadata });
    assert.deepStrictEqual(got.headers.get('x-echo').join(', '), 'one, two words');
    assert.deepStrictEqual(got.trailers.get('x-echo-bin'), [Buffer.from([0, 200, 255])]);
  },
  async status_details() {
    const err = await fails(grpc.status.FAILED_PRECONDITION, unary('Fail', Buffer.from([8, 9, 250])));
    assert.strictEqual(err.details, 'nöt now: 100 %');
    assert.deepStrictEqual(err.metadata.get('grpc-status-details-bin'), [Buffer.from([8, 9, 250])]);
    assert.deepStrictEqual(err.metadata.get('x-why'), ['because']);
  },
  async unimplemented() {
    await fails(grpc.status.UNIMPLEMENTED, unary('NoSuchMethod', Buffer.from('m')));
  },
  async deadline() {
    const call = client.makeServerStreamRequest(path('Hang'), raw, raw, Buffer.from('m'), new grpc.Metadata(), soon(400));
    const err = await fails(grpc.status.DEADLINE_EXCEEDED, all(call));
    assert.deepStrictEqual(err.messages.map(String), ['m']);
  },
  async deadline_seen() { // within what other clients round up
    const ms = Number((await unary('Remaining', Buffer.alloc(0), { ms: 9000 })).value);
    assert.ok(ms > 4000 && ms <= 9100, 'the server sees ' + ms + ' ms of 9000');
  },
  async cancel() {
    const before = await ended();
    const call = client.makeServerStreamRequest(path('Hang'), raw, raw, Buffer.from('m'), new grpc.Metadata(), soon());
    call.once('data', () => call.cancel());
    await fails(grpc.status.CANCELLED, all(call));
    for (let i = 0; (await ended()) === before; i++) {
      assert.ok(i < 100, 'the server does not hear of it');
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  },
  async gzip() {
    const over = open({ 'grpc.default_compression_algorithm': grpc.compressionAlgorithms.gzip });
    assert.deepStrictEqual((await unary('Unary', text(100000), { over })).value, text(100000));
    over.close();
  },
  async large() {
    assert.ok((await unary('Unary', text(8 << 20))).value.equals(text(8 << 20)));
  },
  async many() {
    const calls = [...Array(200).keys()].map((i) => unary('Unary', Buffer.from(String(i))));
    assert.deepStrictEqual((await Promise.all(calls)).map((got) => Number(got.value)), [...Array(200).keys()]);
  },
};

async function main() {
  for (const [name, play] of Object.entries(cases)) {
    try {
      await play();
      console.log('ok ' + name);
    } catch (err) {
      console.log('FAIL ' + name + ': ' + String(err.message).split('\n').slice(0, 6).join(' '));
    }
  }
  client.close();
}

main();
