// The part of ONNX Runtime's C API that custom operators need, declared by hand: the header is not in its wheel.
//
// The API is a table of function pointers whose order is append-only; ONNX Runtime asserts it version by version
// (onnxruntime/core/session/onnxruntime_c_api.cc). The numbers below hold since version 17 (ONNX Runtime 1.17).
#pragma once
#include <cstddef>
#include <cstdint>

struct OrtStatus;
struct OrtValue;
struct OrtTensorTypeAndShapeInfo;
struct OrtKernelInfo;
struct OrtKernelContext;
struct OrtSessionOptions;
struct OrtCustomOpDomain;

namespace quoit::ort {

constexpr uint32_t VERSION = 17;

enum ErrorCode : int { FAIL = 1, INVALID_ARGUMENT = 2 };
enum ElementType : int { FLOAT = 1, UINT8 = 2, INT8 = 3, INT64 = 7 };
enum Characteristic : int { REQUIRED = 0, OPTIONAL = 1 };

struct ApiBase {
  const void* const* (*get_api)(uint32_t version);
  const char* (*version)();
};

extern const void* const* table;

template <size_t SLOT, typename F>
struct Function;
template <size_t SLOT, typename Result, typename... Arguments>
struct Function<SLOT, Result(Arguments...)> {
  Result operator()(Arguments... arguments) const {
    return reinterpret_cast<Result (*)(Arguments...)>(const_cast<void*>(table[SLOT]))(arguments...);
  }
};

constexpr Function<0, OrtStatus*(ErrorCode, const char*)> create_status;
constexpr Function<26, OrtStatus*(const char*, OrtCustomOpDomain**)> create_domain;
constexpr Function<27, OrtStatus*(OrtCustomOpDomain*, const struct CustomOp*)> add_op;
constexpr Function<28, OrtStatus*(OrtSessionOptions*, OrtCustomOpDomain*)> add_domain;
constexpr Function<51, OrtStatus*(OrtValue*, void**)> tensor_data;
constexpr Function<61, OrtStatus*(const OrtTensorTypeAndShapeInfo*, size_t*)> count_dimensions;
constexpr Function<62, OrtStatus*(const OrtTensorTypeAndShapeInfo*, int64_t*, size_t)> dimensions;
constexpr Function<65, OrtStatus*(const OrtValue*, OrtTensorTypeAndShapeInfo**)> type_and_shape;
constexpr Function<85, OrtStatus*(const OrtKernelInfo*, const char*, float*)> float_attribute;
constexpr Function<86, OrtStatus*(const OrtKernelInfo*, const char*, int64_t*)> int_attribute;
constexpr Function<90, OrtStatus*(const OrtKernelContext*, size_t, const OrtValue**)> input;
constexpr Function<91, OrtStatus*(OrtKernelContext*, size_t, const int64_t*, size_t, OrtValue**)> output;
constexpr Function<93, void(OrtStatus*)> release_status;
constexpr Function<99, void(OrtTensorTypeAndShapeInfo*)> release_type_and_shape;
constexpr Function<249, OrtStatus*(const OrtKernelInfo*, size_t, int*, const OrtValue**)> constant_input;
constexpr Function<274, OrtStatus*(const OrtKernelContext*, void (*)(void*, size_t), size_t, size_t, void*)>
    parallel_for;

// An operator as ONNX Runtime reads it; the fields that version 17 has.
struct CustomOp {
  uint32_t version;
  void* (*create)(const CustomOp*, const void*, const OrtKernelInfo*);
  const char* (*name)(const CustomOp*);
  const char* (*provider)(const CustomOp*);
  ElementType (*input_type)(const CustomOp*, size_t);
  size_t (*input_count)(const CustomOp*);
  ElementType (*output_type)(const CustomOp*, size_t);
  size_t (*output_count)(const CustomOp*);
  void (*compute)(void*, OrtKernelContext*);
  void (*destroy)(void*);
  Characteristic (*input_characteristic)(const CustomOp*, size_t);
  Characteristic (*output_characteristic)(const CustomOp*, size_t);
  int (*input_memory)(const CustomOp*, size_t);
  int (*variadic_input_minimum)(const CustomOp*);
  int (*variadic_input_homogeneous)(const CustomOp*);
  int (*variadic_output_minimum)(const CustomOp*);
  int (*variadic_output_homogeneous)(const CustomOp*);
  OrtStatus* (*create_v2)(const CustomOp*, const void*, const OrtKernelInfo*, void**);
  OrtStatus* (*compute_v2)(void*, OrtKernelContext*);
  OrtStatus* (*infer_shapes)(const CustomOp*, void*);
  int (*start_version)(const CustomOp*);
  int (*end_version)(const CustomOp*);
  // Version 18 added these; a newer ONNX Runtime does not read them from an operator of version 17.
  void* later[4];
};

}  // namespace quoit::ort
