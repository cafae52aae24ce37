package config

import (
	"fmt"

	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	capguardv1 "github.com/capguard/capguard/gen/capguard/v1"
	"github.com/capguard/capguard/internal/guard"
	"github.com/capguard/capguard/internal/guard/breaker"
	"github.com/capguard/capguard/internal/guard/limit"
)

// reader checks a file beside the decoder, which finds the line of each violation.
type reader struct {
	root  *yaml.Node // of the file
	found int        // violations
}

// Unmarshal keeps the first node, which is the root, and leaves decoding to the decoder.
func (r *reader) Unmarshal(node *yaml.Node, _ proto.Message) (bool, error) {
	if r.root == nil {
		r.root = node
	}
	return false, nil
}

// Validate returns all violations in a form whose field paths the decoder understands.
func (r *reader) Validate(m proto.Message) error {
	v := check(m.(*capguardv1.Config))
	v.message("", r.root, m.ProtoReflect())
	r.found = len(v)
	return v.err()
}

// message checks what m does not tell any more, as it was written in node: a field that is there twice, of which the last one would win,
// and a zero that would count as left out.
func (v *violations) message(path string, node *yaml.Node, m protoreflect.Message) {
	if node.Kind != yaml.MappingNode {
		return
	}
	seen := make(map[string]*yaml.Node)
	for i := 0; i+1 < len(node.Content); i += 2 {
		key := node.Content[i]
		f := fieldOf(m.Descriptor(), key.Value)
		if f == nil {
			continue // the decoder says so
		}
		at := string(f.Name())
		if path != "" {
			at = path + "." + at
		}
		if v.once(at, string(f.Name()), key, seen) {
			v.field(at, node.Content[i+1], m, f)
		}
	}
}

// fieldOf returns the field of a key, which is its name, its name in JSON or its number, or nil.
func fieldOf(d protoreflect.MessageDescriptor, key string) protoreflect.FieldDescriptor {
	for i := range d.Fields().Len() {
		if f := d.Fields().Get(i); key == string(f.Name()) || key == f.JSONName() || key == fmt.Sprint(f.Number()) {
			return f
		}
	}
	return nil
}

// once tells whether the key of a mapping is the first that means name.
func (v *violations) once(path, name string, key *yaml.Node, seen map[string]*yaml.Node) bool {
	first, ok := seen[name]
	if ok {
		v.add(path, "unique", "it is written twice, in line %d and in line %d: keep one", first.Line, key.Line)
		return false
	}
	seen[name] = key
	return true
}

// field checks the field f of m, as it was written in node.
func (v *violations) field(path string, node *yaml.Node, m protoreflect.Message, f protoreflect.FieldDescriptor) {
	switch {
	case f.IsMap():
		seen := make(map[string]*yaml.Node)
		for i := 0; i+1 < len(node.Content); i += 2 {
			v.once(fmt.Sprintf("%s[%q]", path, node.Content[i].Value), node.Content[i].Value, node.Content[i], seen)
		}
	case f.IsList() && f.Message() != nil:
		for i := range min(len(node.Content), m.Get(f).List().Len()) {
			v.message(fmt.Sprintf("%s[%d]", path, i), node.Content[i], m.Get(f).List().Get(i).Message())
		}
	case f.Message() != nil:
		v.message(path, node, m.Get(f).Message())
	default:
		if advice, ok := zeros[f.FullName()]; ok && isZero(m.Get(f)) {
			v.add(path, "zero", "%s", advice)
		}
	}
}

func isZero(v protoreflect.Value) bool {
	switch n := v.Interface().(type) {
	case int32:
		return n == 0
	case int64:
		return n == 0
	case float64:
		return n == 0
	}
	return false
}

// zeros are the fields in which 0 counts as left out: each with its default, and what may be written.
var zeros = map[protoreflect.FullName]string{
	"capguard.v1.LimitConfig.initial":                  ofDefault(limit.Default().Initial, "at least 1"),
	"capguard.v1.LimitConfig.min":                      ofDefault(limit.Default().Min, "at least 1"),
	"capguard.v1.LimitConfig.max":                      ofDefault(limit.Default().Max, "at least 1; to let no call pass use SetLimit"),
	"capguard.v1.BreakerConfig.failure_ratio":          ofDefault(breaker.Default().FailureRatio, "a share above 0"),
	"capguard.v1.BreakerConfig.slow_ratio":             ofDefault(breaker.Default().SlowRatio, "a share above 0"),
	"capguard.v1.BreakerConfig.min_calls":              ofDefault(breaker.Default().MinCalls, "at least 10"),
	"capguard.v1.BreakerConfig.probes":                 ofDefault(breaker.Default().Probes, "at least 1"),
	"capguard.v1.TenantConfig.weight":                  ofDefault(1, fmt.Sprintf("at least %v", guard.LeastWeight)),
	"capguard.v1.MethodConfig.cost":                    ofDefault(1, "at least 1"),
	"capguard.v1.Bounds.max_header_bytes":              ofDefault(defaultHeaderBytes, "at least 1"),
	"capguard.v1.Bounds.max_connection_streams":        ofDefault(defaultConnectionStreams, "at least 1"),
	"capguard.v1.Bounds.max_connections":               ofDefault(defaultConnections, "at least 1"),
	"capguard.v1.Bounds.max_table_bytes":               ofDefault(4096, "at least 4096"),
	"capguard.v1.Bounds.max_continuation_frames":       ofDefault(16, "at least 1"),
	"capguard.v1.Bounds.max_resets":                    ofDefault(1000, "at least 1"),
	"capguard.v1.Bounds.max_resets_per_second":         ofDefault(500, "at least 1"),
	"capguard.v1.Bounds.max_control_frames":            ofDefault(2000, "at least 1"),
	"capguard.v1.Bounds.max_control_frames_per_second": ofDefault(500, "at least 1"),
	"capguard.v1.Bounds.max_output_bytes":              ofDefault(1<<20, "at least 1"),
	"capguard.v1.Bounds.max_held_bytes":                ofDefault(1<<20, "at least 1"),
	"capguard.v1.Bounds.max_buffered_bytes":            ofDefault(128<<20, "at least 1"),
}

func ofDefault(value any, instead string) string {
	return fmt.Sprintf("0 would mean the default of %v: leave the field out, or write %s", value, instead)
}
