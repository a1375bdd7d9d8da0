"""The messages of the Open Inference Protocol over gRPC, by their fields' numbers.

They are made here from the table, in a pool of their own: generated code would put them into the
one that all of a process shares, where another package's of the same names are refused.
Source: the protocol's specification for gRPC; the numbers of ``double_param`` and ``uint64_param``
are Triton's.
"""

from collections.abc import Mapping
from typing import Any

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
)
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

SERVICE = "inference.GRPCInferenceService"
_PACKAGE = "inference"

# Each field: its number, its type, and `*` in front of the type of one that is repeated. A type
# that is none of protobuf's is a message of the table; `map` is one from texts to InferParameter.
_Fields = Mapping[str, tuple[int, str]]
_TENSOR: _Fields = {
    "name": (1, "string"),
    "datatype": (2, "string"),
    "shape": (3, "*int64"),
    "parameters": (4, "map"),
    "contents": (5, "InferTensorContents"),
}
_NAMED: _Fields = {"name": (1, "string"), "version": (2, "string")}
_TABLE: Mapping[str, _Fields] = {
    "ServerLiveRequest": {},
    "ServerLiveResponse": {"live": (1, "bool")},
    "ServerReadyRequest": {},
    "ServerReadyResponse": {"ready": (1, "bool")},
    "ModelReadyRequest": _NAMED,
    "ModelReadyResponse": {"ready": (1, "bool")},
    "ServerMetadataRequest": {},
    "ServerMetadataResponse": {**_NAMED, "extensions": (3, "*string")},
    "ModelMetadataRequest": _NAMED,
    "ModelMetadataResponse": {
        "name": (1, "string"),
        "versions": (2, "*string"),
        "platform": (3, "string"),
        "inputs": (4, "*ModelMetadataResponse.TensorMetadata"),
        "outputs": (5, "*ModelMetadataResponse.TensorMetadata"),
    },
    "ModelMetadataResponse.TensorMetadata": {
        "name": (1, "string"),
        "datatype": (2, "string"),
        "shape": (3, "*int64"),
    },
    "InferParameter": {
        "bool_param": (1, "bool"),
        "int64_param": (2, "int64"),
        "string_param": (3, "string"),
        "double_param": (4, "double"),
        "uint64_param": (5, "uint64"),
    },
    "InferTensorContents": {
        "bool_contents": (1, "*bool"),
        "int_contents": (2, "*int32"),
        "int64_contents": (3, "*int64"),
        "uint_contents": (4, "*uint32"),
        "uint64_contents": (5, "*uint64"),
        "fp32_contents": (6, "*float"),
        "fp64_contents": (7, "*double"),
        "bytes_contents": (8, "*bytes"),
    },
    "ModelInferRequest": {
        "model_name": (1, "string"),
        "model_version": (2, "string"),
        "id": (3, "string"),
        "parameters": (4, "map"),
        "inputs": (5, "*ModelInferRequest.InferInputTensor"),
        "outputs": (6, "*ModelInferRequest.InferRequestedOutputTensor"),
        "raw_input_contents": (7, "*bytes"),
    },
    "ModelInferRequest.InferInputTensor": _TENSOR,
    "ModelInferRequest.InferRequestedOutputTensor": {
        "name": (1, "string"),
        "parameters": (2, "map"),
    },
    "ModelInferResponse": {
        "model_name": (1, "string"),
        "model_version": (2, "string"),
        "id": (3, "string"),
        "parameters": (4, "map"),
        "outputs": (5, "*ModelInferResponse.InferOutputTensor"),
        "raw_output_contents": (6, "*bytes"),
    },
    "ModelInferResponse.InferOutputTensor": _TENSOR,
}
# Of whose fields one is given: which one is its type.
_CHOICE = "InferParameter"


def _add_fields(message: DescriptorProto, name: str, fields: _Fields) -> None:
    for field_name, (number, kind) in fields.items():
        field = message.field.add(name=field_name, number=number)
        repeated = kind.startswith("*") or kind == "map"
        field.label = (
            FieldDescriptorProto.LABEL_REPEATED if repeated else FieldDescriptorProto.LABEL_OPTIONAL
        )
        kind = kind.removeprefix("*")
        if kind == "map":
            entry = message.nested_type.add(name="ParametersEntry")
            _add_fields(entry, "", {"key": (1, "string"), "value": (2, _CHOICE)})
            entry.options.map_entry = True
            kind = f"{name}.{entry.name}"
        if kind[0].isupper():
            field.type = FieldDescriptorProto.TYPE_MESSAGE
            field.type_name = f".{_PACKAGE}.{kind}"
        else:
            field.type = FieldDescriptorProto.Type.Value(f"TYPE_{kind.upper()}")
        if name == _CHOICE:
            field.oneof_index = 0


def _made() -> dict[str, Any]:
    file = FileDescriptorProto(name="lookwhen/inference", package=_PACKAGE, syntax="proto3")
    messages: dict[str, DescriptorProto] = {}
    # An outer message comes before those within it.
    for name in sorted(_TABLE):
        outer, _, inner = name.rpartition(".")
        place = messages[outer].nested_type if outer else file.message_type
        messages[name] = place.add(name=inner)
    for name, fields in _TABLE.items():
        if name == _CHOICE:
            messages[name].oneof_decl.add(name="parameter_choice")
        _add_fields(messages[name], name, fields)
    pool = DescriptorPool()
    pool.Add(file)
    return {
        name: GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}")) for name in _TABLE
    }


# The class of each message by its name.
MESSAGES: Mapping[str, Any] = _made()
