package grpcguard

import (
	"encoding/base64"
	"strconv"

	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/capguard/capguard/internal/guard"
)

// The names of the fields that carry a status.
const (
	statusKey  = "grpc-status"
	messageKey = "grpc-message"
	detailsKey = "grpc-status-details-bin"
)

// head begins every Trailers-Only answer. It is never written to.
var head = [...]hpack.HeaderField{{Name: ":status", Value: "200"}, {Name: "content-type", Value: "application/grpc"}}

// appendRefusal appends all fields of the Trailers-Only answer that Refusal describes.
func appendRefusal(dst []hpack.HeaderField, d *guard.Decision, c *guard.Call, name string) []hpack.HeaderField {
	t := rowOf(d.Reason)
	dst = append(dst, head[:]...)
	if t.name == "" {
		return append(appendStatus(dst, codes.Internal, []byte(unfounded), nil), hpack.HeaderField{Name: PushbackKey, Value: pushback(Never)})
	}
	var v variables
	after := t.after(d)
	v.fill(d, c, name, after)
	var room [512]byte
	var more [1024]byte
	message := v.appendMessage(room[:0], d.Reason)
	details := appendDetails(appendProto(more[:0], t.code, message), t.name, &v, after)
	dst = appendStatus(dst, t.code, message, details)
	return append(dst, hpack.HeaderField{Name: PushbackKey, Value: pushback(after)})
}

// AppendStatus appends all fields of a Trailers-Only answer with a status.
func AppendStatus(dst []hpack.HeaderField, st *status.Status) []hpack.HeaderField {
	dst = append(dst, head[:]...)
	p := st.Proto()
	if len(p.GetDetails()) == 0 {
		return appendStatus(dst, st.Code(), []byte(st.Message()), nil)
	}
	details, err := proto.Marshal(p)
	if err != nil { // A text is not UTF-8: the code and the message say most.
		details = nil
	}
	return appendStatus(dst, st.Code(), []byte(st.Message()), details)
}

// appendStatus appends the fields of a status; a message or details that are empty are left out.
func appendStatus(dst []hpack.HeaderField, c codes.Code, message, details []byte) []hpack.HeaderField {
	dst = append(dst, hpack.HeaderField{Name: statusKey, Value: strconv.Itoa(int(c))})
	if len(message) > 0 {
		dst = append(dst, hpack.HeaderField{Name: messageKey, Value: percentEncoded(message)})
	}
	if len(details) > 0 {
		var room [1024]byte
		dst = append(dst, hpack.HeaderField{Name: detailsKey, Value: string(base64.RawStdEncoding.AppendEncode(room[:0], details))})
	}
	return dst
}
