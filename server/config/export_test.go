package config

import "google.golang.org/protobuf/reflect/protoreflect"

// RefusesZero tells whether a file may not say 0 for the field.
func RefusesZero(f protoreflect.FieldDescriptor) bool { return zeros[f.FullName()] != "" }
