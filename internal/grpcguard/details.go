package grpcguard

import (
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protowire"
)

// The messages of a refusal are written field by field, which costs a tenth of building them. The numbers are those of google/rpc's
// status.proto and error_details.proto and of google/protobuf's any.proto and duration.proto.
const (
	statusCode, statusMessage, statusDetails = 1, 2, 3
	anyType, anyValue                        = 1, 2
	infoReason, infoDomain, infoMetadata     = 1, 2, 3
	entryKey, entryValue                     = 1, 2
	retryDelay                               = 1
	durationSeconds, durationNanos           = 1, 2
)

// appendProto appends a google.rpc.Status without details.
func appendProto(b []byte, c codes.Code, message []byte) []byte {
	return appendText(appendNumber(b, statusCode, uint64(c)), statusMessage, message)
}

// appendDetails appends the details of a refusal to a google.rpc.Status.
func appendDetails(b []byte, reason string, v *variables, after time.Duration) []byte {
	var room [768]byte
	b = appendAny(b, "type.googleapis.com/google.rpc.ErrorInfo", appendInfo(room[:0], reason, v))
	if after < 0 {
		return b
	}
	var d, r [32]byte
	delay := appendNumber(d[:0], durationSeconds, uint64(after/time.Second))
	delay = appendNumber(delay, durationNanos, uint64(after%time.Second))
	return appendAny(b, "type.googleapis.com/google.rpc.RetryInfo", appendText(r[:0], retryDelay, delay))
}

func appendInfo(b []byte, reason string, v *variables) []byte {
	b = appendText(b, infoReason, reason)
	b = appendText(b, infoDomain, Domain)
	for i, value := range v {
		if value == "" {
			continue
		}
		size := sizeOfText(len(names[i])) + sizeOfText(len(value))
		b = appendSize(b, infoMetadata, size)
		b = appendText(b, entryKey, names[i])
		b = appendText(b, entryValue, value)
	}
	return b
}

// appendAny appends one detail of a google.rpc.Status.
func appendAny(b []byte, url string, value []byte) []byte {
	b = appendSize(b, statusDetails, sizeOfText(len(url))+sizeOfText(len(value)))
	b = appendText(b, anyType, url)
	return appendText(b, anyValue, value)
}

// sizeOfText is the size of a text of n bytes with its tag.
func sizeOfText(n int) int { return 1 + protowire.SizeBytes(n) }

func appendText[T string | []byte](b []byte, field protowire.Number, s T) []byte {
	return append(appendSize(b, field, len(s)), s...)
}

// appendSize begins a text, or a message within another, of n bytes. The tags of fields below 16 are one byte.
func appendSize(b []byte, field protowire.Number, n int) []byte {
	tag := byte(protowire.EncodeTag(field, protowire.BytesType))
	if n < 0x80 {
		return append(b, tag, byte(n)) // nearly always
	}
	return protowire.AppendVarint(append(b, tag), uint64(n))
}

// appendNumber appends a number; 0 is left out, as proto3 has it.
func appendNumber(b []byte, field protowire.Number, n uint64) []byte {
	if n == 0 {
		return b
	}
	return protowire.AppendVarint(protowire.AppendTag(b, field, protowire.VarintType), n)
}
