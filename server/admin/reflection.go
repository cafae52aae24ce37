package admin

import (
	_ "embed" // descriptors.binpb
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/grpc/reflection"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
)

// descriptors is our schema with its comments, which generated code leaves out; `make generate` writes it.
//
//go:embed descriptors.binpb
var descriptors []byte

// registerReflection serves reflection with comments: v1, and v1alpha for older clients, which is the same on the wire under another name.
func registerReflection(s *grpc.Server) {
	service := reflection.NewServerV1(reflection.ServerOptions{Services: s, DescriptorResolver: newSchema()})
	v1 := reflectionv1.ServerReflection_ServiceDesc
	s.RegisterService(&v1, service)
	alpha := v1
	alpha.ServiceName = "grpc.reflection.v1alpha.ServerReflection"
	s.RegisterService(&alpha, service)
}

// schema finds our files with comments, and all others that are linked in, as health and the error details, without.
type schema struct{ own *protoregistry.Files }

// newSchema panics if the embedded file is broken: it is part of the program.
func newSchema() schema {
	var set descriptorpb.FileDescriptorSet
	if err := proto.Unmarshal(descriptors, &set); err != nil {
		panic(fmt.Sprintf("read descriptors.binpb: %v", err))
	}
	files, err := protodesc.NewFiles(&set)
	if err != nil {
		panic(fmt.Sprintf("link descriptors.binpb: %v", err))
	}
	return schema{files}
}

func (s schema) FindFileByPath(path string) (protoreflect.FileDescriptor, error) {
	if f, err := s.own.FindFileByPath(path); err == nil {
		return f, nil
	}
	return protoregistry.GlobalFiles.FindFileByPath(path)
}

func (s schema) FindDescriptorByName(name protoreflect.FullName) (protoreflect.Descriptor, error) {
	if d, err := s.own.FindDescriptorByName(name); err == nil {
		return d, nil
	}
	return protoregistry.GlobalFiles.FindDescriptorByName(name)
}
