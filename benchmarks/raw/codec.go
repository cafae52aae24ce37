// Package raw moves gRPC messages as the bytes that they are on the wire: the load, the back-end and the plainest proxy of the benchmarks
// spend nothing on protobuf, so that what is measured is the transport.
//
// What this package does not do: it does not compress, and it does not look into a message.
package raw

import (
	"fmt"

	"google.golang.org/grpc/mem"
)

// Codec takes messages that are *mem.BufferSlice, and hands out such.
type Codec struct{}

// Marshal hands over the message, and with it the reference that its holder had: gRPC frees it when it is sent.
func (Codec) Marshal(v any) (mem.BufferSlice, error) {
	m, ok := v.(*mem.BufferSlice)
	if !ok {
		return nil, fmt.Errorf("marshal %T: want a *mem.BufferSlice", v)
	}
	return *m, nil
}

// Unmarshal keeps data with a reference of its own: gRPC frees its own afterwards.
func (Codec) Unmarshal(data mem.BufferSlice, v any) error {
	m, ok := v.(*mem.BufferSlice)
	if !ok {
		return fmt.Errorf("unmarshal %T: want a *mem.BufferSlice", v)
	}
	data.Ref()
	*m = data
	return nil
}

// Name is empty: calls have no content subtype, as those of a generated client.
func (Codec) Name() string { return "" }

// Message returns a message of so many bytes, which may be sent any number of times at once.
func Message(size int) mem.BufferSlice { return mem.BufferSlice{mem.SliceBuffer(make([]byte, size))} }
