// The echo service in Node.js: node server.js ADDRESS [CERT KEY]. What each method does stands in ../foreign.go.
'use strict';

const fs = require('fs');
const grpc = require('@grpc/grpc-js');

const [address, cert, key] = process.argv.slice(2);
let ended = 0; // calls of Hang that the client left

function echo(call, callback) {
  const headers = new grpc.Metadata();
  for (const value of call.metadata.get('x-echo')) headers.add('x-echo', value);
  call.sendMetadata(headers);
  const trailers = new grpc.Metadata();
  for (const value of call.metadata.get('x-echo-bin')) trailers.add('x-echo-bin', value);
  callback(null, call.request, trailers);
}

function collect(call, callback) {
  const parts = [];
  call.on('data', (part) => parts.push(part));
  call.on('end', () => callback(null, Buffer.concat(parts)));
}

function spread(call) {
  for (let i = 0; i < 5; i++) call.write(Buffer.concat([call.request, Buffer.from(String(i))]));
  call.end();
}

function chat(call) {
  call.on('data', (message) => call.write(message));
  call.on('end', () => call.end());
}

function fail(call, callback) {
  const metadata = new grpc.Metadata();
  metadata.set('grpc-status-details-bin', call.request);
  metadata.set('x-why', 'because');
  callback({ code: grpc.status.FAILED_PRECONDITION, details: 'nöt now: 100 %', metadata });
}

function hang(call) {
  call.on('cancelled', () => ended++);
  call.write(call.request);
}

function remaining(call, callback) {
  callback(null, Buffer.from(String(Math.round(call.getDeadline() - Date.now()))));
}

const raw = (value) => value;
function method(name, requestStream, responseStream) {
  return {
    path: '/capguard.conformance.Echo/' + name, requestStream, responseStream,
    requestSerialize: raw, requestDeserialize: raw, responseSerialize: raw, responseDeserialize: raw,
  };
}

const server = new grpc.Server({ 'grpc.max_receive_message_length': -1, 'grpc.max_send_message_length': -1 });
server.addService({
  Unary: method('Unary', false, false), Collect: method('Collect', true, false), Spread: method('Spread', false, true),
  Chat: method('Chat', true, true), Fail: method('Fail', false, false), Hang: method('Hang', false, true),
  Ended: method('Ended', false, false), Remaining: method('Remaining', false, false),
}, {
  Unary: echo, Collect: collect, Spread: spread, Chat: chat, Fail: fail, Hang: hang, Remaining: remaining,
  Ended: (call, callback) => callback(null, Buffer.from(String(ended))),
});

const credentials = cert
  ? grpc.ServerCredentials.createSsl(null, [{ cert_chain: fs.readFileSync(cert), private_key: fs.readFileSync(key) }])
  : grpc.ServerCredentials.createInsecure();
server.bindAsync(address, credentials, (err) => {
  if (err) throw err;
});
process.on('SIGTERM', () => process.exit(0));
